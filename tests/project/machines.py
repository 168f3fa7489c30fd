"""`make test-machines`: the tests that compute, as on other CPUs; `full=true`: all, three times, beside busy loops."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PYTEST = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal"]
COMPUTING = ["train", "evaluate/probe", "evaluate/inference", "pipeline/teachers", "pipeline/test_run.py"]
QUICK = ["-k", "not kill_9 and not ddp"]  # those take long for their processes, and compute what others do
# name: (what the libraries are told of the CPU, whether teachers believe that it computes bfloat16)
MACHINES = {
    "a CPU without vector instructions": ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, False),
    "a CPU with AVX2": ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
    "a CPU with bfloat16": ({}, True),
}
# Every Python runs this first, the workers' too. torch is imported no sooner than without it.
CUSTOM = """import sys
class Believe:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.teachers.precision":
            import torch
            torch.cpu.get_capabilities = lambda: {{"avx512_bf16": {bfloat16}}}
sys.meta_path.insert(0, Believe())
"""
if __name__ == "__main__" and "full=true" in sys.argv:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    failed = sum(subprocess.call(PYTEST) != 0 for _ in range(3))
    [loop.kill() for loop in loops]
    sys.exit(failed)
elif __name__ == "__main__":
    for name, (told, bfloat16) in MACHINES.items():
        print(f"\n{name}: {told}, {bfloat16=}", flush=True)
        with TemporaryDirectory() as folder:
            Path(folder, "sitecustomize.py").write_text(CUSTOM.format(bfloat16=bfloat16))
            # A cache of its own: kernels compiled for another machine's vectors gave NaN and a segmentation fault.
            place = os.environ | told | {"PYTHONPATH": folder, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
            subprocess.run([*PYTEST, *QUICK, *(f"tests/{room}" for room in COMPUTING)], env=place, check=True)

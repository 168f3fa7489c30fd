"""What goes into the wheel: the package soundnet, and inside it, as soundnet/checkout/, the stages and conf/."""

from pathlib import Path
from shutil import rmtree

from setuptools import find_packages, setup

INSIDE = "soundnet.checkout"  # soundnet/modules.py finds them there
STAGES = ("shards", "pipeline", "train", "evaluate")

rmtree("build/lib", ignore_errors=True)  # setuptools would pack what an earlier version of us has left there, too

modules = find_packages(include=[f"{name}{deeper}" for name in STAGES for deeper in ("", ".*")])
conf = [".".join(folder.parts) for folder in (Path("conf"), *Path("conf").rglob("*/"))]

setup(
    py_modules=["hear_soundnet"],
    packages=["soundnet", *(f"{INSIDE}.{name}" for name in (*modules, *conf))],
    package_dir={f"{INSIDE}.{name}": name for name in (*STAGES, "conf")},
    package_data={"": ["*.j2", "*.css", "*.json", "*.yaml", "*.txt", "*.html", "*.js"]},
)

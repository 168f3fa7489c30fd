"""`make demo`: the main job end to end on a corpus of our own making, step after step, all under outputs/demo.

What a finished step has left is kept, so that a second `make demo` is over in seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.corpus import CorpusSettings, render_corpus
from shards.manifest import ContractError

ROOT = Path(__file__).parents[1]  # of the checkout; its commands run there
FOLDER = Path("outputs/demo")
VIDEOS = FOLDER / "synthetic-videos"
SHARDS = FOLDER / "synthetic-shards"
CORPUS = CorpusSettings()
MAX_PROCESSES = 8  # that render; more would wait for each other's memory

SYNTHETIC = """\
The demo corpus is SYNTHETIC: camera moves over photographs that ship inside Python packages, with computed sounds.
It shows that the program works, from videos to labels; it says nothing about natural sound."""


def render_videos() -> None:
    """Render the videos."""
    show_progress = sys.stdout.isatty()

    def rendered(done: int, wanted: int) -> None:
        if show_progress or done == wanted:
            print(f"\r{done} of {wanted} videos", end="" if done < wanted else "\n", flush=True)

    processes = min(os.cpu_count() or 1, MAX_PROCESSES)
    clips = render_corpus(ROOT / VIDEOS, CORPUS, processes=processes, rendered=rendered)
    seconds = sum(clip.seconds for clip in clips)
    print(f"{VIDEOS}: {len(clips)} videos of {len(CORPUS.photographs)} photographs, {seconds / 60:.1f} min")
    print(SYNTHETIC)


def label_videos() -> None:
    """Write teacher shards, with an ImageNet network whose weights are in a Python package."""
    share = f"validation_share={CORPUS.validation_share}"
    run("pipeline", f"videos={VIDEOS}", f"shards={SHARDS}", "teachers=efficientnet_lite0", "device=cpu", share)


def check_shards() -> None:
    """Check every byte of the shards."""
    run("shards", "check", str(SHARDS))


STEPS: list[Callable[[], None]] = [render_videos, label_videos, check_shards]


def run(module: str, *arguments: str) -> None:
    """Run a command of this project as a user would; a failure ends the demo with the command's own exit status."""
    print("$ python -m", module, *arguments, flush=True)
    status = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    began = time.monotonic()
    for number, step in enumerate(STEPS, start=1):
        print(f"\n[{number}/{len(STEPS)}] {(step.__doc__ or '').strip()}", flush=True)
        step()
    print(f"\nDone in {time.monotonic() - began:.0f} s. {SYNTHETIC}")
    print(f"Look at the shards in a browser: {SHARDS / 'report.html'}")


if __name__ == "__main__":
    argparse.ArgumentParser(prog="make demo", description=__doc__).parse_args()  # it has no settings, and says so
    try:
        main()
    except ContractError as error:
        sys.exit(str(error))

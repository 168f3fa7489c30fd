"""`python -m evaluate benchmark=esc50 root=... checkpoint=... layer=pool5`: how good are a checkpoint's features?"""

from evaluate.probe.run import EvaluateSettings, run
from shards.cli.command import command

if __name__ == "__main__":
    command(EvaluateSettings, "evaluate", run, resumable=True)

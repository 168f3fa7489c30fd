"""`python -m evaluate.supervised benchmark=... root=...`: a network that learns from a benchmark's own labels."""

from evaluate.supervised.run import SupervisedSettings, run
from shards.cli.command import command

if __name__ == "__main__":
    command(SupervisedSettings, "supervised", run, resumable=True)

"""`python -m train shards=... run=... student=soundnet8`: stage two, from teacher shards to a student's checkpoint."""

from shards.cli.command import command
from train.run import Sweep, run
from train.settings import TrainSettings

if __name__ == "__main__":
    command(TrainSettings, "train", run, resumable=True, check=Sweep().check)

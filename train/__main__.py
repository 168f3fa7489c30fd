"""`python -m train shards=... run=... student=soundnet8`: stage two, from teacher shards to a student's checkpoint."""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from shards.cli.command import command
        from train.run import Sweep, run
        from train.settings import TrainSettings
    command(TrainSettings, "train", run, resumable=True, check=Sweep().check)

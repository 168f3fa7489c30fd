"""`python -m pipeline.relabel shards=... videos=... teachers=resnet50`: the sound stays as it is."""

from pipeline.relabel.run import RelabelSettings, run
from shards.command import command

if __name__ == "__main__":
    command(RelabelSettings, "relabel", run)

"""`python -m pipeline.relabel videos=... shards=... teachers=...`: labels of another teacher set.

It is not in run.py: each process that is spawned would import that, and torch with it.
"""

from pipeline.relabel.run import RelabelSettings, run
from shards.cli.command import command

if __name__ == "__main__":
    command(RelabelSettings, "relabel", run, resumable=True)

"""`python -m pipeline.relabel videos=... shards=... teachers=...`: labels of another teacher set.

It is not in run.py: each process that is spawned would import that, and torch with it.
"""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from pipeline.relabel.run import RelabelSettings, run
        from shards.cli.command import command
    command(RelabelSettings, "relabel", run, resumable=True)

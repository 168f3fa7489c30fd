"""`python -m evaluate.supervised benchmark=... root=...`: a network that learns from a benchmark's own labels."""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.supervised.run import SupervisedSettings, run
        from shards.cli.command import command
    command(SupervisedSettings, "supervised", run, resumable=True)

"""`python -m evaluate.reproduce`: the paper's tables and figures beside ours."""

from functools import partial

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.reproduce.experiments import Experiments
        from evaluate.reproduce.run import run
        from evaluate.reproduce.settings import ReproduceSettings
        from shards.cli.command import command
    command(ReproduceSettings, "reproduce", partial(run, experiments=Experiments.compose()), resumable=True)

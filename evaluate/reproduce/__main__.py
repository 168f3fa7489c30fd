"""`python -m evaluate.reproduce`: the paper's tables and figures beside ours."""

from functools import partial

from evaluate.reproduce.experiments import Experiments
from evaluate.reproduce.run import run
from evaluate.reproduce.settings import ReproduceSettings
from shards.cli.command import command

if __name__ == "__main__":
    command(ReproduceSettings, "reproduce", partial(run, experiments=Experiments.compose()), resumable=True)

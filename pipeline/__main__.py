"""`python -m pipeline videos=... shards=... teachers=...`: stage one, from videos to teacher shards."""

from pipeline.run import run
from pipeline.settings import PipelineSettings
from shards.cli.command import command

if __name__ == "__main__":
    command(PipelineSettings, "pipeline", run, resumable=True)

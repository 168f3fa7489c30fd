"""`python -m pipeline videos=... shards=... teachers=...`: stage one, from videos to teacher shards."""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from pipeline.run import run
        from pipeline.settings import PipelineSettings
        from shards.cli.command import command
    command(PipelineSettings, "pipeline", run, resumable=True)

"""`python -m evaluate benchmark=esc50 root=... checkpoint=... layer=pool5`: how good are a checkpoint's features?"""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.probe.run import EvaluateSettings, run
        from shards.cli.command import command
    command(EvaluateSettings, "evaluate", run, resumable=True)

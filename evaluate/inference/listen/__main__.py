"""`python -m evaluate.inference.listen checkpoint=... similar=/my/sounds`: a page that listens, on 127.0.0.1."""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.inference.listen.run import ListenSettings, run
        from shards.cli.command import command
    command(ListenSettings, "listen", run)

"""`python -m evaluate.inference.listen checkpoint=... similar=/my/sounds`: a page that listens, on 127.0.0.1."""

from evaluate.inference.listen.run import ListenSettings, run
from shards.cli.command import command

if __name__ == "__main__":
    command(ListenSettings, "listen", run)

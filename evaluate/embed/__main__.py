"""`python -m evaluate.embed a.wav b.mp4 layer=pool5 checkpoint=... out=features.npz`: features of these sounds."""

from evaluate.embed.run import EmbedSettings, run
from shards.command import command

if __name__ == "__main__":
    command(EmbedSettings, "embed", run, words="files")

"""`python -m evaluate.inference.embed a.wav b.mp4 layer=pool5 checkpoint=... out=features.npz`: their features."""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.inference.embed.run import EmbedSettings, run
        from shards.cli.command import command
    command(EmbedSettings, "embed", run, positional="files", resumable=True)

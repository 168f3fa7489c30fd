"""`python -m evaluate.inference.tag a.wav b.mp4 checkpoint=... top=5`: what is in these sounds?"""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.inference.tag.run import TagSettings, run
        from shards.cli.command import command
    command(TagSettings, "tag", run, positional="files")

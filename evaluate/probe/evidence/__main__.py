"""`python -m evaluate.probe.evidence shards=... checkpoint=...`: does sound tell what is seen, in these videos?"""

from shards.cli.loading import loading

if __name__ == "__main__":
    with loading():
        from evaluate.probe.evidence.run import EvidenceSettings, run
        from shards.cli.command import command
    command(EvidenceSettings, "evidence", run)

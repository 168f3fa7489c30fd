"""`python -m evaluate.probe.evidence shards=... checkpoint=...`: does sound tell what is seen, in these videos?"""

from evaluate.probe.evidence.run import EvidenceSettings, run
from shards.cli.command import command

if __name__ == "__main__":
    command(EvidenceSettings, "evidence", run)

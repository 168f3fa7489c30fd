"""The page at the end of stage one: what a shard folder holds, as counts and as a few clips to look at and listen to.

Everything on it is read from the shards and the plan, one shard at a time.
"""

from pipeline.report.page import write_report

__all__ = ["write_report"]

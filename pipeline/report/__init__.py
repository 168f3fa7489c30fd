"""The page at the end of stage one: what a shard folder holds, in counts and in clips to look at and listen to."""

from pipeline.report.page import write_report

__all__ = ["write_report"]

"""What there is to tell about the sounds given: the tags of each, as a whole and over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.inference.posteriors import Heard
from evaluate.inference.tag.tags import Base, Tag, tags


@dataclass(frozen=True)
class Span:
    """A part of a sound in seconds, or all of it, with its tags {head: [...]}."""

    begin: float
    end: float
    tags: dict[str, list[Tag]]


@dataclass(frozen=True)
class Finding:
    """One file: the whole, and its parts one after the other (none where they were not asked for)."""

    path: Path
    whole: Span
    parts: list[Span]


@dataclass(frozen=True)
class Findings:
    """All files, and what lifts are over. `checkpoint` says which network was asked: file, hash, student, story."""

    checkpoint: dict[str, str]
    lift_over: str
    findings: list[Finding]

    def rows(self) -> Iterator[dict[str, Any]]:
        """A flat row for every tag. `span` is `whole` or `part`, rank 1 the highest lift."""
        for finding in self.findings:
            for name, span in [("whole", finding.whole), *(("part", part) for part in finding.parts)]:
                for head, tagged in span.tags.items():
                    for rank, tag in enumerate(tagged, start=1):
                        yield {
                            "file": str(finding.path),
                            "span": name,
                            "begin": round(span.begin, 3),
                            "end": round(span.end, 3),
                            "head": head,
                            "rank": rank,
                            "name": tag.name,
                            "posterior": round(tag.posterior, 6),
                            "lift": round(tag.lift, 3),
                            "lift_over": self.lift_over,
                        }


def find(
    path: Path, heard: Heard, base: Base, classes: Mapping[str, Sequence[str]], *, top: int, over_time: bool
) -> Finding:
    """The tags of one sound. `classes` maps heads to their classes' names."""
    lifts = {head: base.lift(head, posteriors) for head, posteriors in heard.posteriors.items()}  # (rows, classes)
    whole = {head: tags(mean, base.lift(head, mean), classes[head], top) for head, mean in heard.means.items()}
    parts = [
        Span(
            float(heard.begins[row]),
            float(heard.ends[row]),
            {head: tags(heard.posteriors[head][row], lifts[head][row], classes[head], top) for head in lifts},
        )
        for row in range(len(heard.begins) if over_time else 0)
    ]
    return Finding(path, Span(0.0, heard.seconds, whole), parts)

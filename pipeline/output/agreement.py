"""What ranks agree on before they work: the manifest, and the plan. The first one writes them, the others find them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pipeline.decoder.settings import DecodeSettings
from pipeline.output.account import account_for
from pipeline.output.destination import Output
from pipeline.output.ranks import FolderLease
from pipeline.videos.listing import Listing
from pipeline.videos.plan import NAME as PLAN
from pipeline.videos.plan import Plan, ShardPlan, ShardPolicy
from shards.format.sidefile import side_files
from shards.storage import is_remote

log = logging.getLogger("pipeline")


def make_plan(
    output: Output,
    seat: FolderLease,
    listing: Listing,
    *,
    policy: ShardPolicy,
    reading: DecodeSettings,
    sample_rate: int,
    retry_rejected: bool,
) -> Plan:
    """The plan as it stands, where other ranks work by it. Else an unfinished one is finished first, and what is new
    is added; on request, what was rejected is taken up."""
    plan = Plan.load(output.folder)
    if seat.agree(_terms(listing, policy, reading)):
        return plan
    retrying = any(shard.retry for shard in unfinished(output.folder, plan.shards))
    longer = plan.extend(listing, partial(_hashes, output.folder), policy)
    if retry_rejected and not retrying:  # a killed retry is finished, not begun anew
        account = account_for(plan, side_files(output.folder), sample_rate)
        rejected = {reject.key for reject in account.rejects}
        longer |= plan.retry((video for video in plan.videos if video.key in rejected), policy)
    if longer:
        output.push(PLAN)
    splits = {shard.split for shard in plan.shards}
    for empty in sorted({"train", "validation"} - splits):
        share = policy.validation_share
        videos = sum(shard.count for shard in plan.shards if not shard.retry)
        log.warning("no video fell into %s: %d videos, validation_share=%.3g", empty, videos, share)
    return plan


def _hashes(folder: Path, keys: set[str]) -> dict[str, str]:
    """Of the videos with these keys that are in finished shards."""
    sides = side_files(folder)
    return {key: digest for side in sides for key, digest in side.video_hashes.items() if key in keys}


def _terms(listing: Listing, policy: ShardPolicy, reading: DecodeSettings) -> dict[str, object]:
    """What ranks at work at one time have in common beside the manifest: the very inputs, and how they are read."""
    return {
        "videos": listing.root if is_remote(listing.root) else os.path.abspath(listing.root),
        "inputs": len(listing.paths),
        "sha256 of their paths": listing.sha256,
        "shard_size": asdict(policy.size),
        "reading": asdict(reading),
    }


def unfinished(folder: Path, shards: Iterable[ShardPlan]) -> list[ShardPlan]:
    return [shard for shard in shards if not (folder / f"{shard.shard}.json").exists()]

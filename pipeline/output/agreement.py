"""The plan of a folder, as all ranks agree on it: the first one at work extends it, the others find it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pipeline.decoder.settings import DecodeSettings
from pipeline.output.account import account_of
from pipeline.output.destination import Output
from pipeline.output.folder_lock import FolderLease
from pipeline.videos.listing import Listing
from pipeline.videos.plan import NAME as PLAN
from pipeline.videos.plan import Plan, ShardPlan, ShardPolicy
from shards.cli.words import amount
from shards.format.clip import ClipSpec
from shards.format.sidefile import side_files
from shards.storage import is_remote

log = logging.getLogger("pipeline")


def make_plan(
    output: Output,
    lease: FolderLease,
    listing: Listing,
    *,
    policy: ShardPolicy,
    reading: DecodeSettings,
    clip: ClipSpec,
    retry_rejected: bool,
) -> Plan:
    """The plan to work by. Call it in a turn of the lease. Raises ContractError where ranks at work differ.

    Where other ranks work by the plan it stays as it stands. Else new inputs are added to it, and with `retry_rejected`
    those that were rejected once more, unless an earlier retry is still to be finished.
    """
    plan = Plan.load(output.folder)
    terms = {  # what ranks at work at one time have in common beside the manifest
        "videos": listing.root if is_remote(listing.root) else os.path.abspath(listing.root),
        "inputs": len(listing.inputs),
        "sha256 of their paths": listing.sha256,
        "shard_size": asdict(policy.size),
        "reading": asdict(reading),
    }
    if lease.agree(terms):
        return plan

    def finished_hashes(keys: set[str]) -> dict[str, str]:
        sides = side_files(output.folder)
        return {key: digest for side in sides for key, digest in side.video_hashes.items() if key in keys}

    is_retrying = any(shard.retry for shard in unfinished(output.folder, plan.shards))
    has_grown = plan.extend(listing, finished_hashes, policy)
    has_grown |= plan.note(listing.not_taken)
    if retry_rejected and not is_retrying and plan.shards:
        rejected = account_of(output.folder, clip).rejects.keys()
        has_grown |= plan.retry((video for video in plan.videos if video.key in rejected), policy)
    if has_grown:
        output.push(PLAN)
    for empty in sorted({"train", "validation"} - {shard.split for shard in plan.shards}):
        videos = sum(shard.count for shard in plan.shards if not shard.retry)
        among = amount(videos, "video")
        log.warning("no video fell into %s: %s, validation_share=%.3g", empty, among, policy.validation_share)
    return plan


def unfinished(folder: Path, shards: Iterable[ShardPlan]) -> list[ShardPlan]:
    """Those of the plan that have no side file yet."""
    return [shard for shard in shards if not (folder / f"{shard.shard}.json").exists()]

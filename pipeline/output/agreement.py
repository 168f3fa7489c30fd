"""What ranks agree on before they work: the manifest, and the plan. The first one writes them, the others find them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pipeline.output.account import account_for, side_files
from pipeline.output.destination import Output
from pipeline.output.ranks import Seat
from pipeline.settings import PipelineSettings
from pipeline.videos.listing import Listing
from pipeline.videos.plan import NAME as PLAN
from pipeline.videos.plan import Plan, ShardPlan
from shards.format.manifest import NAME as MANIFEST
from shards.format.manifest import ContractError, Manifest, TeacherCard, require_same
from shards.media.waveform import RESAMPLER
from shards.storage import is_remote

log = logging.getLogger("pipeline")


def agree_on_manifest(settings: PipelineSettings, output: Output, teacher_cards: dict[str, TeacherCard]) -> None:
    """Write the manifest on the first run; on every later one, be equal to it."""
    reading = settings.reading
    manifest = Manifest(
        clip=settings.clip,
        teacher_set=settings.teachers.name,
        teachers=teacher_cards,
        audio=settings.audio,
        resampler=RESAMPLER,
        sampling=f"tolerance {reading.tolerance:g} s" if reading.sampling == "tolerance" else reading.sampling,
        keep_frames=settings.keep_frames,
        validation_share=settings.validation_share,
        seed=settings.seed,
    )
    if not (output.folder / MANIFEST).exists():
        manifest.save(output.folder)
        output.push(MANIFEST)
        return
    found = Manifest.load(output.folder)
    if found.teacher_set != manifest.teacher_set:
        raise ContractError(
            f"{settings.shards} was labelled by teachers={found.teacher_set}, this run has teachers="
            f"{manifest.teacher_set}. Another set is added beside it: `make relabel videos={settings.videos} "
            f"shards={settings.shards} teachers={manifest.teacher_set}`"
        )
    remedy = "Use the settings the shards were made with, or another folder (shards=...)."
    require_same(asdict(manifest), asdict(found), settings.shards, remedy)


def make_plan(settings: PipelineSettings, output: Output, seat: Seat, listing: Listing) -> Plan:
    """The plan as it stands, where other ranks work by it. Else an unfinished one is finished first, and what is new
    is added; on request, what was rejected is taken up."""
    plan = Plan.load(output.folder)
    if seat.agree(_terms(settings, listing)):
        return plan
    retrying = any(shard.retry for shard in unfinished(output.folder, plan.shards))
    longer = plan.extend(listing, partial(_hashes, output.folder), settings.dealing)
    if settings.retry_rejected and not retrying:  # a killed retry is finished, not begun anew
        account = account_for(plan, side_files(output.folder), settings.clip.sample_rate)
        rejected = {reject.key for reject in account.rejects}
        longer |= plan.retry((video for video in plan.videos if video.key in rejected), settings.dealing)
    if longer:
        output.push(PLAN)
    splits = {shard.split for shard in plan.shards}
    for empty in sorted({"train", "validation"} - splits):
        share = settings.validation_share
        videos = sum(shard.count for shard in plan.shards if not shard.retry)
        log.warning("no video fell into %s: %d videos, validation_share=%.3g", empty, videos, share)
    return plan


def _hashes(folder: Path, keys: set[str]) -> dict[str, str]:
    """Of the videos with these keys that are in finished shards."""
    sides = side_files(folder)
    return {key: digest for side in sides for key, digest in side.video_hashes.items() if key in keys}


def _terms(settings: PipelineSettings, listing: Listing) -> dict[str, object]:
    """What ranks at work at one time have in common beside the manifest: the very inputs, and how they are read."""
    return {
        "videos": listing.root if is_remote(listing.root) else os.path.abspath(listing.root),
        "inputs": len(listing.paths),
        "sha256 of their paths": listing.sha256,
        "shard_size": asdict(settings.shard_size),
        "reading": asdict(settings.reading),
    }


def unfinished(folder: Path, shards: Iterable[ShardPlan]) -> list[ShardPlan]:
    return [shard for shard in shards if not (folder / f"{shard.shard}.json").exists()]

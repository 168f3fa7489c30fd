"""Where every second of a video went that was read, and what was repaired on the way."""

from __future__ import annotations

import math

from pipeline.decoder.clips import ClipAssembler
from shards.format.example import MediaAccount
from shards.media.demux import Demuxer
from shards.media.waveform import AudioTrack

ROUNDING_SECONDS = 5e-4


def account_of_reading(
    media: Demuxer,
    audio: AudioTrack,
    assembler: ClipAssembler,
    given_seconds: float,
    file_begin: float,
    asked: tuple[float, float],
    ends: tuple[float, float],
) -> MediaAccount:
    """The seconds from the file's begin to its end; to the end that the container promises, if later.

    `asked`: of a segment, its begin and end; infinite ones mean the file's own. What the file lacks of it is `unread`
    too. `ends`: where sound and picture end.
    """
    audio_end, video_end = ends
    begin = file_begin if asked[0] == -math.inf else asked[0]
    read_until = max(audio_end, video_end, assembler.cut_until)
    is_whole = asked[1] == math.inf
    end = max(read_until, media.expected_end(file_begin, read_until) if is_whole else asked[1])
    common_end = max(min(audio_end, video_end), assembler.cut_until)
    ended = "no_sound" if audio_end < video_end else "no_frame"  # what is missing behind the common end
    missing = end - read_until
    leapt = (media.promised_end(file_begin) if is_whole else end) - read_until
    behind_break = min(max(leapt, 0.0), media.clock.break_seconds)
    unread = missing - behind_break if media.ended_early else 0.0
    left_out = {
        "before_common_start": assembler.start - begin,
        "dropped_clip": assembler.dropped_seconds,
        ended: read_until - common_end + unread,
        "behind_break": behind_break,
        "unread": missing - behind_break - unread,
    }
    left_out["tail"] = end - begin - given_seconds - sum(left_out.values())
    repaired = {
        "broken_stamps": media.clock.repaired,
        "clock_breaks": media.clock.breaks,
        "stamps_smoothed": audio.smoothed,
        "gaps_filled": audio.gaps,
        "gap_seconds": round(audio.gap_seconds, 3),
        "overlap_seconds": round(audio.overlap_seconds, 3),
        "non_finite_samples": audio.non_finite,
        "clipped_samples": audio.stats.too_loud,
        "frames_concealed": media.corrupt_frames,
        "mono_of_left_channel": int(audio.left),
        "cancelled_seconds": round(audio.stats.lost_seconds, 3),
    }
    return MediaAccount(
        seconds=round(end - begin, 3),
        in_clips=round(given_seconds, 3),
        left_out={reason: round(seconds, 3) for reason, seconds in left_out.items() if seconds > ROUNDING_SECONDS},
        repaired={what: count for what, count in repaired.items() if count},
    )

"""Keys are injective, safe as tar member names, and fit; splits depend on the key alone."""

import math
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from pipeline.videos.keys import MAX_KEY, key_of, segment_of, segment_text, split_of
from shards.format.example import clip_key

paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80)


@given(paths)
def test_a_key_is_a_name_without_dots_or_slashes_and_short_ones_decode(path):
    key = key_of(path)
    assert len(key) <= MAX_KEY
    assert set(key) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-~%=")
    if "=" not in key:
        assert unquote(key) == path


@given(paths, paths)
def test_two_paths_never_share_a_key(one, other):
    assert (key_of(one) == key_of(other)) == (one == other)


seconds = st.floats(0, 1e300) | st.integers(0, 10**6).map(float)
segments = st.tuples(seconds, seconds | st.just(math.inf)).map(sorted)


@given(paths, segments, paths, segments)
def test_two_segments_never_share_a_key_and_equal_ones_do(path, segment, other_path, other):
    key = key_of(path, *segment)
    assert len(key) <= MAX_KEY and not {".", "/"} & set(key)
    assert (key == key_of(other_path, *other)) == ((path, segment) == (other_path, other))
    assert (key == key_of(path, *other)) == (segment == other)
    assert (key == key_of(other_path, *segment)) == (path == other_path)
    assert segment_of(segment_text(*segment)) == tuple(segment)
    assert (key == key_of(path)) == (segment == [0.0, math.inf])


def test_a_segment_stands_behind_the_path_in_seconds():
    assert key_of("a/b.mp4", 10.0, 20.5) == "a%2Fb%2Emp4+10+20%2E5"
    assert key_of("a.mp4", 10.0) == "a%2Emp4+10+"
    assert key_of("a.mp4+10+20") == "a%2Emp4%2B10%2B20"


def test_names_that_naive_escapes_merge_stay_apart():
    paths = ["a/b.mp4", "a_b.mp4", "a%2Fb.mp4", "a-b.mp4", "a.b.mp4", "a b.mp4", "a.mp4", "a.mov", "A.mp4", "../a.mp4"]
    paths += [f"{'long' * 30}{ending}.mp4" for ending in ("", "x", "y")]
    assert len({key_of(path) for path in paths}) == len(paths)


def test_bytes_that_are_no_utf8_have_a_key():
    assert key_of("\udcff.mp4") == "%FF%2Emp4"


def test_clip_keys_of_lookalike_videos_stay_apart():
    assert clip_key(key_of("a.mp4"), 0) != clip_key(key_of("a.mp4-00000"), 0)
    assert clip_key("a", 7).rsplit("-", 1)[0] == "a"


def test_the_share_of_validation_is_met_and_the_seed_matters():
    keys = [key_of(f"{number}.mp4") for number in range(20_000)]
    share = 140_000 / 2_140_000
    held_out = [key for key in keys if split_of(key, share, seed=0) == "validation"]
    assert abs(len(held_out) / len(keys) - share) < 4 * (share * (1 - share) / len(keys)) ** 0.5
    assert held_out != [key for key in keys if split_of(key, share, seed=1) == "validation"]
    assert {split_of(key, 0.0, seed=0) for key in keys} == {"train"}

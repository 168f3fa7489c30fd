"""The catalogue puts every photograph into both splits, by the pipeline's own hash."""

from collections import Counter

import pytest

from evaluate.demo.corpus.catalogue import CorpusSettings, catalogue
from pipeline.videos.keys import key_of, split_of


def test_the_demo_corpus_is_what_the_readme_promises():
    clips = catalogue(CorpusSettings())
    assert len(clips) == len({clip.path for clip in clips}) == 200
    assert len({clip.photograph for clip in clips}) >= 8
    assert all(10 < clip.seconds < 15 for clip in clips)  # one clip of 10 s each
    splits = Counter((clip.photograph, split_of(key_of(str(clip.path)), 0.3, 0)) for clip in clips)
    assert {count for (_, split), count in splits.items() if split == "train"} == {14}
    assert {count for (_, split), count in splits.items() if split == "validation"} == {6}
    assert len(splits) == 20


@pytest.mark.parametrize(("share", "seed", "clips", "held_out"), [(0.5, 0, 6, 3), (0.1, 7, 5, 1), (0.9, 3, 4, 3)])
def test_other_shares_and_seeds_are_met_as_well(share, seed, clips, held_out):
    settings = CorpusSettings(
        photographs=("china", "brick"), clips_per_photograph=clips, validation_share=share, split_seed=seed
    )
    drawn = [(clip.photograph, split_of(key_of(str(clip.path)), share, seed)) for clip in catalogue(settings)]
    assert Counter(drawn)["china", "validation"] == Counter(drawn)["brick", "validation"] == held_out
    assert len(drawn) == 2 * clips


@pytest.mark.parametrize(
    "wrong",
    [{"photographs": ("zebra",)}, {"clips_per_photograph": 1}, {"validation_share": 1.0}, {"shortest_seconds": 60.0}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        CorpusSettings(**wrong)

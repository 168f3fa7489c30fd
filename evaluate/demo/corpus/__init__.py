"""The demo corpus: camera moves over photographs that ship inside wheels, each with a family of sounds of its own.

It is synthetic and says so wherever it appears; it stands in for a folder of videos where none is at hand.
"""

from evaluate.demo.corpus.catalogue import CorpusSettings
from evaluate.demo.corpus.render import render_corpus

__all__ = ["CorpusSettings", "render_corpus"]

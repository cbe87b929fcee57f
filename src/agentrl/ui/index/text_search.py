"""Which rows of a segment contain something, exactly and without reading a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from agentrl.ui.index.array_file import Array
from agentrl.ui.index.text_files import TextFiles
from agentrl.ui.index.tokens import AFTER_A_BLANK, Sought, fold, sequences

_FIRST_PLACES = 1 << 14
"""Places of frequent words that are read before it is asked whether any row is left to be found; then twice as many."""
_FEW_WORDS = 8
_FEW = 1 / 64
"""Of all places: fewer are looked up one by one, more are marked in a line of all places."""


def rows_with(files: TextFiles, contains: str) -> Array:
    """[rows] bool: whether a text of the row contains it, whatever its case."""
    if not contains:
        return np.ones(len(files.row_starts), bool)
    search = _Search(files)
    for sought in sequences(fold(contains)):
        search.find(sought)
    return search.rows()


class _Search:
    """One search in one segment; what it finds adds up."""

    def __init__(self, files: TextFiles) -> None:
        self.files = files
        self.has = np.zeros(len(files.text_ends), bool)
        """[texts] those that were found so far."""
        self._found_words: dict[bytes, Array] = {}
        self.n_places = int(files.text_ends[-1]) + 1

    def rows(self) -> Array:
        """[rows] bool"""
        starts = self.files.row_starts
        if not self.has.any():
            return np.zeros(len(starts), bool)
        return np.logical_or.reduceat(self.has[self.files.row_texts], starts)

    def find(self, sought: tuple[Sought, ...]) -> None:
        """Texts in which tokens follow one another so."""
        if len(sought) == 1:
            self._find_one(self._words(sought[0].pattern))
            return
        is_after_blank = sought[0] == AFTER_A_BLANK
        if is_after_blank:  # nearly half of all tokens end with one
            sought = sought[1:]
        starts = self._starts(sought)
        if is_after_blank:
            before = starts[starts > 0] - 1
            starts = before[(self.files.blanks[before >> 3] >> (7 - (before & 7))) & 1 == 1]
        self._found(starts)

    def _starts(self, sought: Sequence[Sought]) -> Array:
        """Places from which tokens follow one another so."""
        times = Counter(sought)
        words, counts = {}, {}
        for each in times:
            words[each] = self._words(each.pattern)
            counts[each] = int(self.files.counts_of(words[each]).sum())
            if not counts[each]:
                return np.zeros(0, np.int64)
        rarest_first = sorted(range(len(sought)), key=lambda number: counts[sought[number]])
        first = rarest_first[0]
        starts = self.files.places_of(words[sought[first]]).astype(np.int64) - first
        starts = starts[(starts >= 0) & (starts + len(sought) <= self.n_places)]
        lines: dict[Sought, Array] = {}
        for number in rarest_first[1:]:
            each = sought[number]
            if len(words[each]) <= _FEW_WORDS and len(starts) < self.n_places * _FEW and times[each] < _FEW_WORDS:
                starts = starts[self._stand(words[each], starts + number)]
            else:
                if each not in lines:
                    lines[each] = self._line(self.files.places_of(words[each]))
                starts = starts[lines[each][starts + number]]
            if not len(starts):
                break
        return starts

    def _find_one(self, words: Array) -> None:
        """Texts with one of these words: the most frequent ones first, until every row has one."""
        counts = self.files.counts_of(words)
        order = np.argsort(-counts)
        chunks = np.log2(1 + np.cumsum(counts[order]) / _FIRST_PLACES).astype(np.int64)
        for chunk in range(int(chunks[-1]) + 1 if len(words) else 0):
            self._found(self.files.places_of(words[order[chunks == chunk]]))
            if chunk < chunks[-1] and self.rows().all():
                return

    def _found(self, places: Array) -> None:
        ends = self.files.text_ends
        if len(places) < self.n_places * _FEW:
            self.has[np.searchsorted(ends, places)] = True
        else:
            starts = np.concatenate([[0], ends[:-1].astype(np.int64) + 1])
            self.has |= np.logical_or.reduceat(self._line(places), starts)

    def _line(self, places: Array) -> Array:
        """[places of the segment] bool: which of them these are."""
        line = np.zeros(self.n_places, bool)
        line[places] = True
        return line

    def _stand(self, words: Array, places: Array) -> Array:
        """[places] bool: whether one of a few words stands there."""
        is_there = np.zeros(len(places), bool)
        for word in words:
            standing = self.files.places_of(np.array([word]))
            at = np.minimum(np.searchsorted(standing, places), len(standing) - 1)
            is_there |= standing[at] == places
        return is_there

    def _words(self, pattern: bytes) -> Array:
        if pattern not in self._found_words:
            self._found_words[pattern] = self.files.words_with(pattern)
        return self._found_words[pattern]

"""The texts of a segment on disk: where every token stands, and which rows hold which text.

Each distinct text is numbered and written once, however many rows hold it (tools answer the same over and over). The
tokens of all texts stand in one line, one place left free after each text.

    words        every token once                word_starts     where each begins
    places       places of token 0, of 1, ...    place_ends      where those of a token end
    blanks       a bit a place: whether a blank ends its token
    text_ends    the free place after each text
    row_texts    texts of row 0, of row 1, ...   row_ends        where those of a row end
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from agentrl.ui.index.array_file import Array, ArrayFile, write_arrays
from agentrl.ui.index.tokens import BETWEEN, fold, packed, tokens

TEXTS = "texts.bin"
_MANY = 1 / 8
"""Of all places: more are taken out of them in one go, fewer word by word."""


class TextWriter:
    """Takes the texts of row after row, then writes them."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._words: defaultdict[str, int] = defaultdict()
        self._words.default_factory = self._words.__len__  # a new word gets the next number
        self._words[""] = 0  # stands in the free places
        self._line, self._text_ends = array("I"), array("I")
        self._row_texts, self._row_ends = array("I"), array("I")

    @property
    def n_places(self) -> int:
        """Size of what was taken so far, in tokens."""
        return len(self._line)

    def add(self, texts: Iterable[str]) -> None:
        """The texts of the next row."""
        numbers = {self._number(fold(text)) for text in texts} or {self._number("")}
        self._row_texts.extend(sorted(numbers))
        self._row_ends.append(len(self._row_texts))

    def _number(self, folded: str) -> int:
        number = self._texts.get(folded)
        if number is None:
            number = self._texts[folded] = len(self._texts)
            self._line.extend(map(self._words.__getitem__, tokens(folded)))
            self._text_ends.append(len(self._line))
            self._line.append(0)
        return number

    def write(self, folder: Path) -> None:
        """Everything as one file; the folder is there.

        Raises:
            OSError: it cannot be written.
        """
        words = [packed(word) for word in self._words]
        lengths = np.fromiter((len(word) + 1 for word in words), np.int64, len(words))
        line: Array = np.frombuffer(self._line, np.uint32)
        places: Array = np.sort((line.astype(np.uint64) << np.uint64(32)) + np.arange(len(line), dtype=np.uint64))
        has_blank = np.fromiter((word.endswith(" ") for word in self._words), bool, len(words))
        arrays = {
            "words": np.frombuffer(BETWEEN + b"".join(word + BETWEEN for word in words), np.uint8),
            "word_starts": _small(1 + np.cumsum(lengths) - lengths),
            "places": _small(places & np.uint64(0xFFFFFFFF)),
            "place_ends": _small(np.cumsum(np.bincount(line, minlength=len(words)))),
            "blanks": np.packbits(has_blank[line]),
            "text_ends": np.frombuffer(self._text_ends, np.uint32),
            "row_texts": _small(np.frombuffer(self._row_texts, np.uint32)),
            "row_ends": np.frombuffer(self._row_ends, np.uint32),
        }
        write_arrays(folder / TEXTS, arrays)


def _small(numbers: Array) -> Array:
    """The numbers in as few bytes as they need."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


class TextFiles:
    """What a TextWriter wrote, mapped when it is first needed.

    Raises, when it is:
        OSError, ValueError, KeyError: the file is not there, or not whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _file(self) -> ArrayFile:
        return ArrayFile(self.folder / TEXTS)

    @cached_property
    def words(self) -> Array:
        """Bytes of all tokens, each between two BETWEEN."""
        return self._file.array("words")

    @cached_property
    def word_starts(self) -> Array:
        """[words] offset in `words`."""
        return self._file.array("word_starts")

    @cached_property
    def places(self) -> Array:
        """Where tokens stand; those of one token ascend."""
        return self._file.array("places")

    @cached_property
    def place_ends(self) -> Array:
        """[words] offset in `places`."""
        return self._file.array("place_ends").astype(np.int64)

    @cached_property
    def blanks(self) -> Array:
        """[places / 8] of bits."""
        return self._file.array("blanks")

    @cached_property
    def text_ends(self) -> Array:
        """[texts]"""
        return self._file.array("text_ends")

    @cached_property
    def row_texts(self) -> Array:
        """Numbers of texts, at least one for every row."""
        return self._file.array("row_texts")

    @cached_property
    def row_starts(self) -> Array:
        """[rows] offset in `row_texts`."""
        ends = self._file.array("row_ends").astype(np.int64)
        return np.concatenate([[0], ends[:-1]]) if len(ends) else ends

    def words_with(self, pattern: bytes) -> Array:
        """Numbers of the words in which the pattern stands, BETWEEN before and after them included."""
        if len(pattern) == 1:
            at = np.flatnonzero(self.words == pattern[0])
        else:
            at = np.array(self._file.find_all("words", pattern), np.int64) + pattern.startswith(BETWEEN)
        return np.unique(np.searchsorted(self.word_starts, at, side="right") - 1)

    def places_of(self, words: Array) -> Array:
        """All places of these words."""
        starts, ends = self._ranges(words)
        if len(words) == 1:
            return self.places[starts[0] : ends[0]]
        lengths = ends - starts
        count = int(lengths.sum())
        if count > len(self.places) * _MANY:
            is_wanted = np.zeros(len(self.place_ends), bool)
            is_wanted[words] = True
            return self.places[np.repeat(is_wanted, np.diff(self.place_ends, prepend=0))]
        return self.places[np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(count)]

    def counts_of(self, words: Array) -> Array:
        """[words] how often each of them stands."""
        starts, ends = self._ranges(words)
        return ends - starts

    def _ranges(self, words: Array) -> tuple[Array, Array]:
        return np.where(words > 0, self.place_ends[words - 1], 0), self.place_ends[words]

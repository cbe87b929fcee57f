"""Several arrays and byte strings in one file, mapped at once: a process may have only so many files open.

8 bytes   length of the header
header    JSON: name -> [type, offset, count]
arrays    each at a multiple of 8
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
"""Of numpy; of integers where nothing else is said."""
_ALIGNED = 8


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """The arrays, of one dimension each.

    Raises:
        OSError: they cannot be written.
    """
    places: dict[str, tuple[str, int, int]] = {}
    offset = 0
    for name, values in arrays.items():
        places[name] = (values.dtype.str, offset, len(values))
        offset += -(-values.nbytes // _ALIGNED) * _ALIGNED
    header = json.dumps(places).encode()
    header += b" " * (-len(header) % _ALIGNED)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(_ALIGNED, "little") + header)
        for values in arrays.values():
            file.write(np.ascontiguousarray(values).data)
            file.write(bytes(-values.nbytes % _ALIGNED))


class ArrayFile:
    """What `write_arrays` wrote.

    Raises:
        OSError, ValueError, KeyError: it is not there, or not whole.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self._mapped[:_ALIGNED], "little")
        self._start = _ALIGNED + length
        self._places = json.loads(self._mapped[_ALIGNED : self._start])

    def array(self, name: str) -> Array:
        """One of the arrays, not to be changed."""
        kind, offset, count = self._places[name]
        return np.frombuffer(self._mapped, np.dtype(kind), count, self._start + offset)

    def find_all(self, name: str, pattern: bytes) -> list[int]:
        """Where in an array of bytes the pattern stands."""
        _, offset, count = self._places[name]
        start, end = self._start + offset, self._start + offset + count
        found, place = [], self._mapped.find(pattern, start, end)
        while place >= 0:
            found.append(place - start)
            place = self._mapped.find(pattern, place + 1, end)
        return found

"""Where a row of the data set keeps its right answer, going by the names of its keys."""

from __future__ import annotations

import re

REFERENCE_KEY = re.compile(r"answer|reference|solution|gold|label|target|expected", re.IGNORECASE)


def names_reference(key: str) -> bool:
    """Whether a key is called as one that holds the right answer."""
    return REFERENCE_KEY.search(key) is not None

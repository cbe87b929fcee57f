"""Values of a trace as they are found: what is missing or of another kind becomes nothing, never an error.

A trace may be older than a key, or written by another program; its page says what is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.runs.files import finite


def text_of(value: object) -> str:
    """Text as it is, nothing for None, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_of(value)


def json_of(value: object) -> str:
    """JSON that a person reads."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=1)
    except RecursionError:
        return "[nested too deeply to be shown]"
    except (TypeError, ValueError):
        return repr(value)


def count_of(value: object) -> int:
    """A whole number from 0, else 0."""
    found = finite(value)
    return int(found) if found is not None and found >= 0 else 0


def list_of(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def mapping_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def numbers_by_name(value: object) -> dict[str, float]:
    """The finite numbers of an object, by their keys."""
    return {str(key): number for key, each in mapping_of(value).items() if (number := finite(each)) is not None}


def numbers_in(value: object) -> tuple[float, ...]:
    """The numbers of a list, NaN where an element is none: places are kept."""
    return tuple(math.nan if (number := finite(each)) is None else number for each in list_of(value))

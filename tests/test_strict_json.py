"""JSON to the letter, however long it is."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.strict_json import strict_json


def test_it_reads_what_json_writes() -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"a": 10**300}}
    assert strict_json(json.dumps(value)) == value


@given(st.text(alphabet='{}[]",:0123456789eE+-.NaInfity \\u\x00'))
def test_it_raises_nothing_but_value_error(text: str) -> None:
    with suppress(ValueError):
        strict_json(text)


def test_a_key_that_stands_twice_is_found_at_once_among_many() -> None:
    """Were each key counted among all, the 60,000 would take half a minute of computing."""
    keys = ",".join(f'"k{number}":1' for number in range(60_000))
    started = time.thread_time()
    with pytest.raises(ValueError, match="key 'k59999' appears twice"):
        strict_json(f'{{{keys},"k59999":2}}')
    assert time.thread_time() - started < 10


def test_a_long_key_is_shown_in_part() -> None:
    key = "x" * 100_000
    with pytest.raises(ValueError, match="appears twice") as caught:
        strict_json(f'{{"{key}":1,"{key}":2}}')
    assert len(str(caught.value)) < 150

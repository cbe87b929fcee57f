"""JSON that is refused, however long it is."""

from __future__ import annotations

import time

import pytest

from agentrl.strict_json import strict_json


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

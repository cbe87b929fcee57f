"""One warm worker a level, shared by the attempts of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grading.sandbox.attempts import Sandbox, levels, skip_unless_it_works


@pytest.fixture(scope="module", params=levels())
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    skip_unless_it_works(request.param)
    it = Sandbox(request.param)
    yield it
    it.close()

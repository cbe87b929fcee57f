"""Who started a release does not approve it under a name that reads the same."""

from __future__ import annotations

import pytest

from agentrl.errors import ConfigError
from agentrl.release.lifecycle.approvals import approve
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from tests.lifecycle_story import NOW, brought_to


@pytest.mark.parametrize("name", ["ada ", "Ada", "ad\u200ba", " a d a"], ids=["space", "capital", "unseen", "spaced"])
def test_a_space_makes_nobody_another_person(place: ReleasePlace, name: str) -> None:
    """T13."""
    release = brought_to(place, ReleaseState.SHADOW, approver_is_other=True, approvals=["canary"])
    with pytest.raises(ConfigError, match="cannot approve it"):
        approve(place, release.id, ReleaseState.CANARY, approver=name, now=NOW + 10)
    approve(place, release.id, ReleaseState.CANARY, approver="grace", now=NOW + 10)

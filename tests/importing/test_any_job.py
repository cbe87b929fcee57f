"""Whatever a job holds, it becomes a config that loads or is refused with a place: nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrl.config import load_config
from agentrl.errors import ConfigError
from agentrl.importing import import_job

JOBS = [json.loads(path.read_text()) for path in sorted(Path(__file__).with_name("jobs").glob("*.json"))]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and position in a job."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield (*path, key)
        yield from places(inner, (*path, key))


PLACES = [(body, path) for body in JOBS for path in places(body)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.sampled_from(PLACES), ANY)
def test_any_job_is_carried_over_or_refused(tmp_path: Path, place: tuple[Any, tuple[Any, ...]], value: Any) -> None:
    body, (*way, last) = deepcopy(place[0]), place[1]
    inner = body
    for key in way:
        inner = inner[key]
    inner[last] = value
    path = tmp_path / "job.json"
    path.write_text(json.dumps(body))
    refused, text = "", ""
    try:
        text = import_job(path).text
    except ConfigError as error:
        refused = str(error)
    if refused:
        assert refused.startswith(str(path))
    else:
        (tmp_path / "run.yaml").write_text(text)
        load_config(tmp_path / "run.yaml")

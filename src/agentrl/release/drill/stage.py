"""Where a drill takes place: a folder, tables and a config of its own, made after the release's.

Lease, polls, drain and database server are those of the config; the models are stubs, the workflow has another name,
and the tables are in a file of the drill's folder, or in a schema of its own that is dropped at the end. Nothing of it
can be mistaken for the release's own records.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from sqlalchemy import make_url, text

from agentrl.config import RunConfig, load_config
from agentrl.disk import write_text
from agentrl.errors import ConfigError
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.rules import frozen_rules
from agentrl.release.place import ReleasePlace, open_place, store_url
from agentrl.release.records import ReleaseState
from agentrl.release.routing import read_routing
from agentrl.release.store import open_store

BASELINE, CANDIDATE = "baseline", "candidate"
SHARE_PERCENT = 50.0
"""As many of the users as can be the candidate's: what is drilled is the way back, not the share."""
STORE_VARIABLE = "AGENTRL_DRILL_STORE"
"""Holds the URL, which may hold a password, so that no file does."""
GATE = "no_safety_regression"


@dataclass(frozen=True)
class Stage:
    """A drill's own place, and the config file that its programs are given."""

    config_file: Path
    config: RunConfig
    place: ReleasePlace
    variables: Mapping[str, str]
    """Of the environment of its programs."""

    @property
    def folder(self) -> Path:
        return self.config_file.parent


@contextmanager
def staged(config: RunConfig, urls: Mapping[str, str], limits: Mapping[str, float]) -> Iterator[Stage]:
    """A place of its own, in which stubs are the baseline and the candidate; see `begin_canary`.

    Args:
        config: of the release that is drilled.
        urls: of the stub servers by name, up to and including /v1.
        limits: `lease_seconds`, `drain_seconds`, `poll_seconds` where they are not the config's.

    Raises:
        ConfigError: the config has no `release` or `gateway` section.
        ReleaseError: the database cannot be reached, or lets nobody make a schema.
    """
    if config.release is None or config.gateway is None:
        raise ConfigError("a drill needs the sections `release` and `gateway`")
    with TemporaryDirectory(prefix="agentrl-drill-") as scratch, _tables(config, Path(scratch)) as url:
        file = Path(scratch) / "drill.yaml"
        write_text(file, yaml.safe_dump(_config(config, Path(scratch), urls, limits), sort_keys=False))
        variables = {STORE_VARIABLE: url}
        with _set(variables):
            loaded = load_config(file)
            place = open_place(loaded)
        try:
            yield Stage(file, loaded, place, variables)
        finally:
            place.store.close()


def _config(config: RunConfig, folder: Path, urls: Mapping[str, str], limits: Mapping[str, float]) -> dict[str, Any]:
    assert config.release is not None
    assert config.gateway is not None
    gateway = config.gateway
    upstreams = {
        name: {"url": url, "model": name, "timeout_seconds": 600, "max_concurrency": 4096} for name, url in urls.items()
    }
    return {
        "name": "drill",
        "workflow": {"target": "drill", "baseline": config.workflow.baseline},
        "release": {
            "folder": str(folder / "releases"),
            "store": "${" + STORE_VARIABLE + "}",
            "canary_traffic_percent": SHARE_PERCENT,
            "gates": [{"name": GATE, "stages": ["canary"], "fail_at_events": 1}],
            "lease_seconds": limits.get("lease_seconds", config.release.lease_seconds),
            "max_metrics_age_seconds": config.release.max_metrics_age_seconds,
            "min_drills": 0,
            "approvals": [],
            "required_suites": [],
        },
        "gateway": {
            "port": 0,
            "admin_port": 0,
            "general": BASELINE,
            "upstreams": upstreams,
            "session_header": gateway.session_header,
            "poll_seconds": limits.get("poll_seconds", gateway.poll_seconds),
            "drain_seconds": limits.get("drain_seconds", gateway.drain_seconds),
            "max_concurrent": 8192,
        },
    }


def begin_canary(stage: Stage) -> str:
    """A release that is a canary from its first line on: its way there is not what is drilled. Returns its id.

    That the drill before it ended in a rollback halts nothing here.
    """
    place, config, now = stage.place, stage.config, time.time()
    release_id = f"drill-{secrets.token_hex(4)}"
    before = read_routing(place.store, place.workflow)
    assert config.release is not None
    release = {
        "id": release_id,
        "workflow": place.workflow,
        "candidate_bundle": "",
        "candidate_upstream": CANDIDATE,
        "baseline_bundle": "",
        "baseline_upstream": BASELINE,
        "state": str(ReleaseState.CANARY),
        "version": 1,
        "share_percent": SHARE_PERCENT,
        "created_at": now,
        "changed_at": now,
        "config": frozen_rules(config),
        "entered_at": now,
        "evidence_since": now,
        "started_by": "drill",
    }
    routing = {
        "epoch": 1 if before is None else before.epoch + 1,
        "general_upstream": BASELINE,
        "general_bundle": "",
        "release_id": release_id,
        "channel": "canary",
        "candidate_upstream": CANDIDATE,
        "candidate_bundle": "",
        "share_percent": SHARE_PERCENT,
        "salt": secrets.token_hex(16),
        "lease_seconds": config.release.lease_seconds,
    }
    workflow = {
        "name": place.workflow,
        "general_bundle": "",
        "general_upstream": BASELINE,
        "halted_at": None,
        "halt": None,
        "failures_count_from": now,
    }
    with ledger(place) as books:
        changes = {"releases": [release], "workflows": [workflow], "routing": {**routing, "grants_lease": True}}
        books.record("start", actor="drill", now=now, release_id=release_id, changes=changes)
    return release_id


@contextmanager
def _tables(config: RunConfig, folder: Path) -> Iterator[str]:
    """The URL of an empty database: a file, or a schema of the release's own server."""
    url = store_url(config)
    if url.startswith("sqlite"):
        yield f"sqlite:///{folder / 'drill.db'}"
        return
    schema = f"agentrl_drill_{secrets.token_hex(4)}"
    server = open_store(url)
    try:
        with server.write() as connection:
            connection.execute(text(f'create schema "{schema}"'))
        try:
            address = make_url(url)
            options = f"{address.query.get('options', '')} -csearch_path={schema}".strip()
            inside = address.update_query_dict({"options": options})
            yield inside.render_as_string(hide_password=False)
        finally:
            with server.write() as connection:
                connection.execute(text(f'drop schema "{schema}" cascade'))
    finally:
        server.close()


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)

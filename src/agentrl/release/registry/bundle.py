"""Bundles: made once, found by the first digits of their ids, never changed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agentrl import __version__
from agentrl.config import RunConfig
from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.place import ReleasePlace
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.gather import Gatherer, Origin, find_origin, load_splits
from agentrl.release.registry.manifest import FORMAT, Part, bundle_id, parts_of
from agentrl.release.registry.scan import licence_of, scan_parts
from agentrl.release.registry.suites import archive_suite
from agentrl.release.store.tables import bundles
from agentrl.strict_json import canonical_json

PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


@dataclass(frozen=True)
class Bundle:
    """A policy with all that it was made from."""

    id: str
    """`sha256:` and the digest of the manifest."""
    manifest: Mapping[str, Any] = field(repr=False)
    created_at: float = field(default=0.0, repr=False)
    """Seconds since 1970, when this place first had it; no part of the id."""

    @property
    def name(self) -> str:
        """For people: workflow, and which policy."""
        return str(self.manifest.get("name") or "")

    @property
    def parent(self) -> str | None:
        """Id of the bundle that it follows."""
        return self.manifest.get("parent")

    @property
    def parts(self) -> list[tuple[str, Part]]:
        """Every part with its place in the manifest."""
        return list(parts_of(self.manifest))

    def part(self, key: str) -> Part | None:
        """The one part under a key; None where there is none."""
        found = self.manifest.get(key)
        return None if found is None else Part.from_record(found)

    def many(self, key: str) -> list[Part]:
        """The parts of a list."""
        return [Part.from_record(each) for each in self.manifest.get(key) or ()]


def create_bundle(
    place: ReleasePlace,
    config: RunConfig,
    policy: str,
    *,
    suites: Sequence[Path] = (),
    evaluations: Sequence[str] = (),
    parent: str | None = None,
    licences: Mapping[str, str] | None = None,
    is_linked: bool = False,
    now: float | None = None,
) -> Bundle:
    """Gather a policy's parts, keep them by digest, look them through, and write the manifest. The same parts give the
    same bundle.

    Args:
        policy: `RUN@best`, a folder of weights, or `baseline`.
        suites: files of frozen suites that it is, or will be, measured on.
        evaluations: files of `agentrl eval`, or `RUN@best`; what the run measured of it itself is there anyway.
        parent: id, or the beginning of one, of the bundle that it follows.
        licences: what people say of `policy`, `baseline` or `data`, in place of what the folders say.
        is_linked: hard links to the weights in place of copies.

    Raises:
        ConfigError: the policy, its data or a suite cannot be found, or are not those of the run.
        ReleaseError: a file may run code, is damaged, or cannot be kept.
    """
    origin = find_origin(config, policy)
    above = read_bundle(place, parent).id if parent else None
    blobs = BlobStore(place)
    try:
        manifest = _manifest(place, blobs, origin, suites, evaluations, above, licences or {}, is_linked)
    except OSError as error:
        raise ReleaseError(f"{error.filename or place.blobs}: {error.strerror or error}") from error
    for suite in suites:
        archive_suite(place, suite)
    return keep_bundle(place, manifest, now=now)


def keep_bundle(place: ReleasePlace, manifest: Mapping[str, Any], *, now: float | None = None) -> Bundle:
    """Write a manifest into the folder and the store; one that is there stays as it is.

    Raises:
        ReleaseError: its parts cannot be read, or it cannot be kept.
    """
    if manifest.get("format") != FORMAT:
        raise ReleaseError(f"found a manifest of format {manifest.get('format')!r}; allowed: {FORMAT!r}")
    parts = list(parts_of(manifest))
    if not parts:
        raise ReleaseError("found a manifest without parts")
    identity = bundle_id(manifest)
    try:
        BlobStore(place).put_bytes(canonical_json(manifest))
    except OSError as error:
        raise ReleaseError(f"{place.blobs}: {error.strerror or error}") from error
    row = {
        "id": identity,
        "name": str(manifest.get("name") or "")[:200],
        "parent": manifest.get("parent"),
        "created_at": time.time() if now is None else now,
        "manifest": manifest,
    }
    with place.store.write() as connection:
        connection.execute(place.store.insert(bundles).values(row).on_conflict_do_nothing())
    return read_bundle(place, identity)


def read_bundle(place: ReleasePlace, id_or_prefix: str) -> Bundle:
    """The bundle whose id begins so, with or without `sha256:`.

    Raises:
        ConfigError: none does, or several do.
        ReleaseError: the manifest is not what its id says, or the store cannot be read.
    """
    given = PREFIX.fullmatch(id_or_prefix.strip().lower())
    if given is None:
        raise ConfigError(
            f"bundle {id_or_prefix[:80]!r}: allowed: an id, sha256:..., or at least its first 4 hexadecimal digits"
        )
    with place.store.read() as connection:
        rows = connection.execute(
            select(bundles).where(bundles.c.id.startswith(f"sha256:{given[1]}", autoescape=True)).order_by(bundles.c.id)
        ).all()
    if not rows:
        raise ConfigError(
            f"bundle {id_or_prefix}: none of that id in {place.store.name}; `agentrl bundle list` has all"
        )
    if len(rows) > 1:
        found = ", ".join(row.id[:23] for row in rows[:5])
        raise ConfigError(f"bundle {id_or_prefix}: {len(rows)} bundles begin so ({found}); give more digits")
    return _checked(place, rows[0]._mapping)


def list_bundles(place: ReleasePlace) -> list[Bundle]:
    """All bundles of the store, the newest first.

    Raises:
        ReleaseError: the store cannot be read, or a manifest is not what its id says.
    """
    with place.store.read() as connection:
        rows = connection.execute(select(bundles).order_by(bundles.c.created_at.desc(), bundles.c.id)).all()
    return [_checked(place, row._mapping) for row in rows]


def _checked(place: ReleasePlace, row: Any) -> Bundle:
    if (found := bundle_id(row["manifest"])) != row["id"]:
        raise ReleaseError(f"{place.store.name}: the manifest of bundle {row['id']} is now that of {found}")
    return Bundle(row["id"], row["manifest"], row["created_at"])


def _manifest(
    place: ReleasePlace,
    blobs: BlobStore,
    origin: Origin,
    suites: Sequence[Path],
    evaluations: Sequence[str],
    parent: str | None,
    licences: Mapping[str, str],
    is_linked: bool,
) -> dict[str, Any]:
    gather, splits = Gatherer(blobs, origin, is_linked=is_linked), load_splits(origin)
    policy_tool = gather.tool_policy()
    one = {
        "policy": gather.policy(),
        "baseline": gather.baseline(),
        "reward_model": gather.reward_model(),
        "rubric": gather.rubric(),
        "tool_policy": policy_tool,
        "trainer_config": gather.trainer_config(),
    }
    many = {
        "graders": gather.graders(),
        "datasets": gather.datasets(splits),
        "eval_suites": gather.suites(suites),
        "evaluations": gather.evaluations([*gather.recorded_evaluations(), *evaluations]),
        "prompts": gather.prompts(splits),
        "tool_specs": gather.tool_specs(),
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": f"{place.workflow} {origin.name}",
        "workflow": place.workflow,
        **{key: part.to_record() if part is not None else None for key, part in one.items()},
        **{key: [part.to_record() for part in parts] for key, parts in many.items()},
        "code_version": _code_version(origin),
        "seeds": {"seed": origin.trainer.seed},
        "parent": parent,
    }
    if policy_tool is not None and origin.config.tools is not None and origin.config.tools.policy is not None:
        rules = origin.config.tools.policy.rules
        manifest["tool_policy"]["rules"] = [{"tool": rule.tool, "decision": rule.decision} for rule in rules]
    stated = {"baseline": licence_of(Path(origin.trainer.workflow.baseline)), "policy": licence_of(origin.folder)}
    if origin.trainer.data is not None and origin.trainer.data.path:
        stated["data"] = licence_of(Path(origin.trainer.data.path))
    manifest["scan"] = scan_parts(blobs, parts_of(manifest), {**stated, **licences}).to_record()
    return manifest


def _code_version(origin: Origin) -> dict[str, Any]:
    recorded = origin.recorded
    return {
        "agentrl": __version__,
        "git_commit": recorded.get("git_commit"),
        "git_has_changes": recorded.get("git_has_changes"),
        "python": recorded.get("python"),
        "packages": dict(recorded.get("packages") or {}),
        "trained_at": recorded.get("started_at") if origin.run else None,
    }


def created(bundle: Bundle) -> str:
    """When this place first had it, ISO 8601, UTC."""
    return datetime.fromtimestamp(bundle.created_at, UTC).isoformat(timespec="seconds")

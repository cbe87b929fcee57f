"""A decision offline, kept: its verdicts, what came of each suite, and evaluations and suites themselves by digest."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from agentrl.errors import ConfigError, ReleaseError
from agentrl.evaluation.evaluation_files import Evaluation, rollouts_beside, write_evaluation
from agentrl.release.gates.digests import digest_of
from agentrl.release.gates.kept import keep_verdicts, read_verdicts
from agentrl.release.gates.look import Look
from agentrl.release.gates.offline import Measured
from agentrl.release.gates.offline_gate import STAGE
from agentrl.release.gates.offline_run import OfflineGate
from agentrl.release.gates.suite_results import suite_result
from agentrl.release.place import ReleasePlace
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.listing import put_files
from agentrl.release.registry.suites import archive_suite
from agentrl.release.store.tables import alerts, suite_results


def next_look(place: ReleasePlace, release_id: str) -> int:
    """Number of the next look at a release's offline stage, from 1."""
    return 1 + max((each.look_no for each in read_verdicts(place.store, release_id, STAGE)), default=0)


def keep_offline(place: ReleasePlace, found: OfflineGate, look: Look, suite_files: Sequence[Path] = ()) -> list[str]:
    """Keep all of it; returns the names of suites whose frozen file was not given, so that only results are kept.

    Evaluations hold every task with its rollouts: they are kept whole, as files by digest.

    Raises:
        ConfigError: a suite file is none, or is of no suite that was measured.
        ReleaseError: it cannot be kept.
    """
    archived = {archive_suite(place, path, now=look.seconds).digest for path in suite_files}
    frozen = {suite.digest: suite.name for suite in found.suites if suite.candidate.selection.get("suite")}
    if unknown := archived - frozen.keys():
        raise ConfigError(f"--suite-file: found a suite of digest {min(unknown)[:19]}, on which nothing was measured")
    rows = [_row(place, suite, found, look) for suite in found.suites]
    with place.store.write() as connection:
        connection.execute(place.store.insert(suite_results).on_conflict_do_nothing(index_elements=["id"]), rows)
        for verdict in found.verdicts:
            if verdict.gate == "reward_hacking" and verdict.verdict == "fail":
                text = f"{verdict.gate}: {verdict.reason}"
                row = {
                    "id": digest_of([look.release_id, look.look_no, text]),
                    "workflow": place.workflow,
                    "release_id": look.release_id,
                    "at": look.seconds,
                    "kind": "reward_hacking",
                    "text": text,
                }
                connection.execute(place.store.insert(alerts).on_conflict_do_nothing(index_elements=["id"]), [row])
    keep_verdicts(place.store, found.verdicts)
    return [name for digest, name in frozen.items() if digest not in archived]


def _row(place: ReleasePlace, suite: Measured, found: OfflineGate, look: Look) -> dict[str, object]:
    record = {
        **suite_result(suite),
        "is_contaminated": suite.name in found.contaminated,
        "contamination": list(found.contaminated.get(suite.name, ())),
        "files": {"baseline": _kept(place, suite.baseline), "candidate": _kept(place, suite.candidate)},
        "look_no": look.look_no,
    }
    return {
        "id": digest_of([look.release_id, look.look_no, suite.kind, suite.name, suite.digest, record]),
        "release_id": look.release_id,
        "kind": suite.kind,
        "name": suite.name[:200],
        "digest": suite.digest,
        "at": look.seconds,
        "record": record,
    }


def _kept(place: ReleasePlace, evaluation: Evaluation) -> str:
    """sha256 of the listing of its two files."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = write_evaluation(Path(folder) / "evaluation.json", evaluation)
            listing, _ = put_files(BlobStore(place), {each.name: each for each in (path, rollouts_beside(path))})
        except OSError as error:
            raise ReleaseError(f"{place.blobs}: cannot be written ({error.strerror or error})") from error
    return listing

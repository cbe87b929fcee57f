"""What a step needs: all of it, from this release, measured since the evidence began."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from agentrl.config.gateway import UpstreamConfig
from agentrl.errors import ReleaseError
from agentrl.release.lifecycle.guards import Checks
from agentrl.release.lifecycle.new_bundle import change_bundle
from agentrl.release.lifecycle.probe import probe_upstream
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.transition import GuardError, transition
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Outcome, Release, ReleaseState
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.bundle import Bundle, keep_bundle
from agentrl.release.registry.manifest import FORMAT, Part
from agentrl.release.routing import read_routing
from agentrl.release.store.tables import drills, releases, suite_results
from tests.lifecycle_story import NOW, brought_to, keep_verdict, started, step

S = ReleaseState


def gaps(place: ReleasePlace, release: Release, to: ReleaseState, *, now: float = NOW + 50, **checks: Any) -> str:
    """What the refusal says."""
    found = Checks(**{"upstream": lambda *_: "", "bundle": lambda *_: []} | checks)
    with pytest.raises(GuardError) as error:
        transition(
            place, release.id, to, actor="ada", expected_version=release.version, evidence={}, now=now, checks=found
        )
    return str(error.value)


def suite(place: ReleasePlace, release: Release, kind: str, *, at: float = NOW + 2, **record: Any) -> None:
    with place.store.write() as connection:
        connection.execute(
            suite_results.insert().values(
                id=f"{kind}-{at}", release_id=release.id, kind=kind, name=kind, digest="sha256:1", at=at, record=record
            )
        )


def drilled(place: ReleasePlace, release: Release, *seconds: float | None, is_counted: bool = True) -> None:
    with place.store.write() as connection:
        for number, each in enumerate(seconds):
            connection.execute(
                drills.insert().values(
                    id=f"d{number}{each}{is_counted}", release_id=release.id, at=NOW + 10 + number,
                    is_counted=is_counted, rollback_seconds=each, record={},
                )
            )  # fmt: skip


@pytest.mark.parametrize("kind", ["capability", "adversarial", "frozen"])
def test_every_kind_of_suite_must_have_been_measured(place: ReleasePlace, kind: str) -> None:
    kinds = ["capability", "adversarial", "frozen"]
    release = brought_to(place, S.OFFLINE_EVAL, required_suites=kinds)
    for each in kinds:
        if each != kind:
            suite(place, release, each)
    assert f"no {kind} suite was measured" in gaps(place, release, S.SHADOW)
    suite(place, release, kind)
    assert step(place, release, S.SHADOW, now=NOW + 50).state is S.SHADOW


def test_a_frozen_suite_that_was_trained_on_stops_the_release(place: ReleasePlace) -> None:
    release = brought_to(place, S.OFFLINE_EVAL, required_suites=["frozen"])
    suite(place, release, "frozen", is_contaminated=True)
    assert "shares items with the training data" in gaps(place, release, S.SHADOW)


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID])
def test_a_gate_that_did_not_pass_stops_the_release(place: ReleasePlace, outcome: Outcome) -> None:
    rows = [{"name": "task_success_not_worse", "stages": ["offline_eval"]}]
    release = brought_to(place, S.OFFLINE_EVAL, gates=rows)
    assert "not looked at in offline_eval" in gaps(place, release, S.SHADOW)
    keep_verdict(place, release.id, "task_success_not_worse", Outcome.PASS, at=NOW + 2, stage="offline_eval")
    keep_verdict(place, release.id, "task_success_not_worse", outcome, at=NOW + 3, stage="offline_eval", look_no=2)
    assert f"gate task_success_not_worse: {outcome} in offline_eval" in gaps(place, release, S.SHADOW)


def test_three_drills_that_count_were_fast_enough(place: ReleasePlace) -> None:
    release = brought_to(place, S.SHADOW, min_drills=3)
    drilled(place, release, 2.0, 3.0)
    drilled(place, release, 1.0, is_counted=False)
    assert "2 of 3 rollback drills" in gaps(place, release, S.CANARY)
    drilled(place, release, 1.5, 2.5, 300.0)
    assert "took 300.0 s; allowed: under 300 s" in gaps(place, release, S.CANARY)
    with place.store.write() as connection:
        connection.execute(drills.update().where(drills.c.rollback_seconds == 300.0).values(rollback_seconds=299.9))
    assert step(place, release, S.CANARY, now=NOW + 50).state is S.CANARY


def test_without_a_warm_baseline_no_canary_starts(place: ReleasePlace) -> None:
    """F51: there would be nothing to come back to."""
    release = brought_to(place, S.SHADOW)

    def cold(_: Release, name: str) -> str:
        return "HTTP 503" if name == "stable" else ""

    assert "the baseline 'stable' does not answer (HTTP 503)" in gaps(place, release, S.CANARY, upstream=cold)


def test_a_canary_lasts_its_time(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY, min_canary="P7D")
    week = 7 * 86400
    assert "h of at least 168.0 h" in gaps(place, release, S.GENERAL, now=release.entered_at + week - 1)
    assert step(place, release, S.GENERAL, now=release.entered_at + week).state is S.GENERAL


def test_a_changed_grader_begins_the_evidence_anew(place: ReleasePlace) -> None:
    """F55: verdicts of before count no longer, the reason is kept, and the shortest time starts again."""
    first, second = bundle_of(place, "v1"), bundle_of(place, "v2")
    rows = [{"name": "task_success_not_worse", "stages": ["canary"]}]
    release = brought_to(place, S.CANARY, gates=rows, min_canary="PT60S")
    with place.store.write() as connection:
        connection.execute(releases.update().values(candidate_bundle=first.id))
    keep_verdict(place, release.id, "task_success_not_worse", Outcome.PASS, at=NOW + 100)
    changed, said = change_bundle(
        place, release.id, second.id, actor="ada", expected_version=release.version, now=NOW + 200
    )
    assert said == ["graders/grader"]
    assert (changed.evidence_since, changed.entered_at) == (NOW + 200, release.entered_at)
    assert latest_verdicts(place, changed, S.CANARY) == {}
    refused = gaps(place, changed, S.GENERAL, now=NOW + 230)
    assert "not looked at in canary" in refused
    assert "release.min_canary" in refused
    routing = read_routing(place.store, "support")
    assert routing is not None
    assert routing.candidate_bundle == second.id


def test_another_policy_is_another_release(place: ReleasePlace) -> None:
    first, second = bundle_of(place, "v1"), bundle_of(place, "v1", policy="other")
    release = brought_to(place, S.CANARY)
    with place.store.write() as connection:
        connection.execute(releases.update().values(candidate_bundle=first.id))
    with pytest.raises(ReleaseError, match="another candidate"):
        change_bundle(place, release.id, second.id, actor="ada", expected_version=release.version, now=NOW + 9)
    assert read_release(place, release.id).evidence_since == 0


def test_a_draft_goes_on_only_with_a_whole_bundle(place: ReleasePlace) -> None:
    release = started(place)
    assert "policy: not there" in gaps(place, release, S.OFFLINE_EVAL, bundle=lambda *_: ["policy: not there"])


class _Answers(BaseHTTPRequestHandler):
    """A server that answers as its path says."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = 200 if self.path.startswith("/warm") else 503
        self.send_response(status)
        self.end_headers()
        if not self.path.startswith("/warm/empty"):
            self.wfile.write(b'{"choices": []}')

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


@pytest.mark.parametrize(
    ("path", "problem"), [("/warm", ""), ("/cold", "HTTP 503"), ("/warm/empty", "an empty answer")]
)
def test_a_server_is_asked_for_one_short_answer(server: str, path: str, problem: str) -> None:
    """F51: a real request."""
    assert probe_upstream(UpstreamConfig(url=f"{server}{path}", model="m")) == problem


def test_a_server_that_is_not_there_or_hangs_is_not_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ConnectError" in probe_upstream(UpstreamConfig(url="http://127.0.0.1:9/v1", model="m"))

    def hang(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    upstream = UpstreamConfig(url="http://127.0.0.1:9/v1", model="m", first_byte_seconds=2.0)
    assert probe_upstream(upstream, transport=httpx.MockTransport(hang)) == "no answer within 2 s"
    keyed = UpstreamConfig(url="http://127.0.0.1:9/v1", model="m", key_env="AGENTRL_TEST_KEY")
    monkeypatch.delenv("AGENTRL_TEST_KEY", raising=False)
    assert probe_upstream(keyed) == "the environment variable AGENTRL_TEST_KEY is not set"


def bundle_of(place: ReleasePlace, grader: str, policy: str = "policy") -> Bundle:
    """With a policy and a grader."""
    blobs = BlobStore(place)

    def part(name: str, text: str) -> dict[str, Any]:
        return Part(name, text, blobs.put_bytes(text.encode()), len(text)).to_record()

    return keep_bundle(
        place, {"format": FORMAT, "name": "m", "policy": part("policy", policy), "graders": [part("grader", grader)]}
    )

"""A plausible release in a store, from the weeks before it over evaluation, shadow and canary to its promotion.

Sessions are drawn from a seed; verdicts are the real judge's, on them; steps are lines of a real audit log. Nothing of
the outside world is needed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from agentrl.config.release import ReleaseConfig
from agentrl.release.budget.kept import keep_budget
from agentrl.release.budget.loaded import week_budget
from agentrl.release.evidence import live_evidence
from agentrl.release.gates.judge import Look, judge_all
from agentrl.release.gates.kept import keep_verdicts
from agentrl.release.gates.shown import shown_verdicts
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Release, ReleaseState, SessionEvidence
from agentrl.release.review.weeks import by_week, served_sessions, week_figures, weeks_until
from agentrl.release.store.tables import bundles, sessions, verdicts

DAY = 86400.0
PROMOTED = datetime(2026, 11, 10, 9, 0, tzinfo=UTC).timestamp()
NOW = PROMOTED + 9 * DAY
INTENTS = ("table question", "percentage change", "multi-step sum", "comparison")
GATES: tuple[dict[str, Any] | str, ...] = (
    {"name": "no_safety_regression", "stages": ["offline_eval", "canary"], "margin": {"absolute": 0.02}},
    {"name": "task_success_not_worse", "min_samples": {"candidate": 100, "baseline": 100}},
    {"name": "latency_delta_lt_15_percent", "stages": ["canary"]},
    {"name": "cost_per_success_not_worse", "stages": ["canary"], "margin": {"relative": 0.10}},
    {"name": "human_override_rate_not_worse", "margin": {"absolute": 0.04}},
    {"name": "tool_error_rate_not_worse", "stages": ["canary"], "margin": {"absolute": 0.02}},
    "rollback_under_5_minutes",
)
COSTS: dict[str, Any] = {
    "relabelling": {"labels": 40, "price_per_label": 0.35},
    "suite_upkeep": {"hours": 0.25, "hourly_rate": 60.0},
    "incidents": {"hourly_rate": 60.0},
    "value_per_success": 0.9,
}


@dataclass(frozen=True)
class Story:
    """What was told."""

    place: ReleasePlace
    release: Release
    now: float


def release_config(**changes: Any) -> ReleaseConfig:
    """The rules of the story's release."""
    return ReleaseConfig.model_validate(
        {
            "gates": GATES,
            "owners": {"ml": "Amina Diallo", "platform": "Jonas Weber", "product": "Claire Moreau"},
            "contact": "release-owners@example.org",
            "limits": [
                "Tables with merged cells were not tested.",
                "Questions in other languages than English were not tested.",
            ],
            "costs": COSTS,
            **changes,
        }
    )


def tell(
    place: ReleasePlace,
    *,
    config: ReleaseConfig | None = None,
    state: ReleaseState = ReleaseState.GENERAL,
    canary_sessions: int = 3000,
    success: float = 0.86,
    seed: int = 7,
    release_id: str = "support-20261020-4f1c2a",
    names: str = "",
    is_first: bool = True,
    is_shown: bool = False,
) -> Story:
    """Fill the place with one release that came as far as `state`.

    Args:
        success: chance of a session of the candidate; the baseline's is 0.80.
        names: appended to the names of bundles' parts.
        is_first: whether the weeks before it are told, too.
        is_shown: whether the metrics that no gate reads are looked at, too, which takes as long as all the rest.
    """
    rng = random.Random(seed)
    rules = config or release_config()
    created = PROMOTED - 21 * DAY
    release = Release(
        id=release_id,
        workflow=place.workflow,
        candidate_bundle=_bundle(place, "4", created, names),
        candidate_upstream="candidate",
        baseline_bundle=_bundle(place, "3", created - 30 * DAY, names),
        baseline_upstream="baseline",
        state=ReleaseState.DRAFT,
        version=1,
        share_percent=0.0,
        created_at=created,
        changed_at=created,
        config={"release": rules.model_dump(mode="json"), "gateway": {"drain_seconds": 60.0}, "monitoring": None},
        entered_at=created,
        started_by="amina",
    )
    with ledger(place) as books:
        books.record("start", actor="amina", now=created, release_id=release.id, changes={"releases": [_row(release)]})
    if is_first:
        _weeks_before(place, rng)
    steps = [ReleaseState.OFFLINE_EVAL, ReleaseState.SHADOW, ReleaseState.CANARY, ReleaseState.GENERAL]
    times = [created + DAY, PROMOTED - 16 * DAY, PROMOTED - 8 * DAY, PROMOTED]
    for step, at in zip(steps, times, strict=True):
        if release.state is state:
            break
        if step in (ReleaseState.CANARY, ReleaseState.GENERAL):
            _approval(place, release, step, at - 3600)
        release = _step(place, release, step, at)
        if step is ReleaseState.OFFLINE_EVAL:
            _offline(place, release, rules, at, rng)
        elif step is ReleaseState.SHADOW:
            _shadow(place, release, rules, at, rng, success, is_shown)
        elif step is ReleaseState.CANARY:
            _canary(place, release, rules, at, rng, success, canary_sessions, is_shown)
    return Story(place, release, NOW)


def incident(place: ReleasePlace, release_id: str, opened_at: float, *, is_closed: bool = True, **told: Any) -> str:
    """An incident of a rollback that took 9.2 seconds, seen after 64."""
    record = {
        "trigger": "gate_failed",
        "text": "human_override_rate_not_worse failed",
        "gates": ["human_override_rate_not_worse"],
        "severity": "soft",
        "t_breach": opened_at - 64.0,
        "t_decision": opened_at,
        "t_route_zero": opened_at + 0.4,
        "t_drained": opened_at + 9.2,
        "recovered_at": opened_at + 1740.0,
        "sessions_affected": 31,
        "class": "policy" if is_closed else None,
        "owner": "ML" if is_closed else None,
        "cause": "retrieval prompt dropped the fiscal year" if is_closed else None,
        "invalidated_assumption": "users name the fiscal year" if is_closed else None,
        "follow_up": "add year to the prompt",
        "closed_by": "amina" if is_closed else None,
        **told,
    }
    row = {
        "id": f"inc-{datetime.fromtimestamp(opened_at, UTC):%Y%m%d}-{int(opened_at) % 4096:03x}",
        "workflow": place.workflow,
        "release_id": release_id,
        "opened_at": opened_at,
        "closed_at": opened_at + 7200.0 if is_closed else None,
        "version": 1,
        "record": record,
    }
    with ledger(place) as books:
        books.record("incident", actor="controller", now=opened_at, release_id=release_id, changes={"incidents": [row]})
    return str(row["id"])


def keep_weeks(place: ReleasePlace, rules: ReleaseConfig, count: int = 5, *, now: float = NOW) -> None:
    """The money and the figures of the last full weeks."""
    from agentrl.release.review.weeks import week_bounds, week_of

    weeks = weeks_until(week_of(now - 7 * DAY), count)
    served = by_week(
        served_sessions(place.store, place.workflow, week_bounds(weeks[0])[0], week_bounds(weeks[-1])[1]), weeks
    )
    for week in weeks:
        figures, _ = week_figures(week, served[week])
        keep_budget(place.store, week_budget(place.workflow, figures, rules.costs, 0.0), figures, at=now)


def session_row(
    place: ReleasePlace,
    number: int,
    at: float,
    rng: random.Random,
    *,
    release_id: str = "",
    channel: str = "general",
    arm: Arm = Arm.BASELINE,
    success: float = 0.80,
    override: float = 0.05,
    cost_usd: float = 0.011,
    **columns: Any,
) -> dict[str, Any]:
    """One session of a user, closed and labelled."""
    calls = rng.randint(1, 5)
    is_success = rng.random() < success
    return {
        "workflow": place.workflow,
        "release_id": release_id,
        "session_id": f"s-{number:06d}",
        "arm": str(arm),
        "channel": channel,
        "cluster": f"user-{rng.randint(0, 400)}",
        "intent": INTENTS[number % len(INTENTS)],
        "assigned_at": at,
        "last_at": at + 40.0,
        "closed_at": at + 60.0,
        "status": "closed",
        "requests": calls + 1,
        "seconds": rng.lognormvariate(2.2, 0.5),
        "tokens_in": 900,
        "tokens_out": 240,
        "cost_usd": cost_usd * rng.lognormvariate(0.0, 0.4),
        "price_table": "sha256:prices",
        "tool_calls": calls,
        "tool_errors": sum(rng.random() < 0.03 for _ in range(calls)),
        "tool_infra_errors": 0,
        "success": is_success,
        "quality": 0.8 + 0.15 * rng.random() if is_success else 0.2 * rng.random(),
        "safety_violations": 0,
        "human_override": rng.random() < override,
        "policy_kl": None,
        "policy_kl_tokens": None,
        "extra": None,
        **columns,
    }


def keep_sessions(place: ReleasePlace, rows: list[dict[str, Any]]) -> None:
    """Write rows as a gateway does, in one transaction."""
    with place.store.write() as connection:
        for start in range(0, len(rows), 500):
            connection.execute(sessions.insert(), rows[start : start + 500])


def _weeks_before(place: ReleasePlace, rng: random.Random) -> None:
    start = PROMOTED - 40 * DAY
    keep_sessions(place, [session_row(place, number, start + number * 32 * DAY / 700, rng) for number in range(700)])


def _step(place: ReleasePlace, release: Release, to: ReleaseState, at: float) -> Release:
    share = {ReleaseState.CANARY: 20.0, ReleaseState.GENERAL: 100.0}.get(to, 0.0)
    changed = replace(release, state=to, version=release.version + 1, changed_at=at, entered_at=at, share_percent=share)
    with ledger(place) as books:
        books.record(
            "transition",
            actor="claire" if to is ReleaseState.GENERAL else "amina",
            now=at,
            release_id=release.id,
            changes={"releases": [_row(changed)]},
            version=changed.version,
            evidence={"reason": "all gates pass"},
            **{"from": str(release.state), "to": str(to)},
        )
    return changed


def _approval(place: ReleasePlace, release: Release, to: ReleaseState, at: float) -> None:
    row = {
        "id": f"a-{to}",
        "subject": f"{release.id}:{to}",
        "context_hash": f"sha256:{to}",
        "decision": "approved",
        "approver": "Claire Moreau",
        "at": at,
        "expires_at": at + DAY,
        "used_at": None,
        "record": {"seen": {}, "reason": ""},
    }
    with ledger(place) as books:
        books.record("approval", actor="claire", now=at, release_id=release.id, changes={"approvals": [row]})


def _offline(place: ReleasePlace, release: Release, rules: ReleaseConfig, at: float, rng: random.Random) -> None:
    evidence = []
    for task in range(240):
        for arm, success in ((Arm.BASELINE, 0.78), (Arm.CANDIDATE, 0.85)):
            evidence.append(
                SessionEvidence(
                    f"{arm}-{task}", arm, pair=f"task-{task}", success=rng.random() < success, safety_violations=0
                )
            )
    look = Look(release.id, "offline_eval", datetime.fromtimestamp(at + 7200, UTC), 1, None, 0.0)
    keep_verdicts(place.store, judge_all(rules.gates, evidence, look))
    suites = [
        suite_row(release.id, "capability", "finqa-test", at, cases=240, failed=36, estimate=0.85, width=0.045),
        suite_row(release.id, "adversarial", "starter-attacks", at, cases=70, failed=2, estimate=0.971, width=0.04),
        suite_row(release.id, "frozen", "finqa-frozen-2026", at, cases=120, failed=21, estimate=0.825, width=0.068),
    ]
    with ledger(place) as books:
        books.record("suites", actor="amina", now=at, release_id=release.id, changes={"suite_results": suites})


def suite_row(
    release_id: str, kind: str, name: str, at: float, *, cases: int, failed: int, estimate: float, width: float
) -> dict[str, Any]:
    """A suite's result, with its failures by name."""
    failures = [
        {"case": f"{name}/{number:04d}", "reason": "answer is off by a factor of 100"} for number in range(failed)
    ]
    return {
        "id": f"{release_id}-{kind}",
        "release_id": release_id,
        "kind": kind,
        "name": name,
        "digest": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
        "at": at,
        "record": {
            "cases": cases,
            "passed": cases - failed,
            "failed": failed,
            "not_graded": 0,
            "estimate": estimate,
            "lower": estimate - width,
            "upper": min(1.0, estimate + width),
            "failures": failures,
        },
    }


def _shadow(
    place: ReleasePlace,
    release: Release,
    rules: ReleaseConfig,
    at: float,
    rng: random.Random,
    success: float,
    is_shown: bool,
) -> None:
    rows = []
    for number in range(200):
        when = at + number * 6 * DAY / 200
        for arm, chance in ((Arm.BASELINE, 0.80), (Arm.CANDIDATE, success)):
            rows.append(
                session_row(
                    place,
                    100_000 + number,
                    when,
                    rng,
                    release_id=release.id,
                    channel="shadow",
                    arm=arm,
                    success=chance,
                    human_override=None,
                )
            )
    keep_sessions(place, rows)
    drills = [_drill(release.id, number, at + number * 600, seconds) for number, seconds in enumerate((4.1, 3.7, 6.3))]
    with ledger(place) as books:
        books.record("drill", actor="jonas", now=at + 3600, release_id=release.id, changes={"drills": drills})
    _look(place, release, rules, "shadow", at, at + 7 * DAY, None, drills=(4.1, 3.7, 6.3), is_shown=is_shown)


def _canary(
    place: ReleasePlace,
    release: Release,
    rules: ReleaseConfig,
    at: float,
    rng: random.Random,
    success: float,
    count: int,
    is_shown: bool,
) -> None:
    rows = []
    for number in range(count):
        is_candidate = number % 5 == 0
        rows.append(
            session_row(
                place,
                200_000 + number,
                at + number * 7.5 * DAY / count,
                rng,
                release_id=release.id,
                channel="canary",
                arm=Arm.CANDIDATE if is_candidate else Arm.BASELINE,
                success=success if is_candidate else 0.80,
                override=0.04 if is_candidate else 0.05,
                cost_usd=0.0095 if is_candidate else 0.011,
            )
        )
    keep_sessions(place, rows)
    _look(place, release, rules, "canary", at, at + 7.9 * DAY, 20.0, is_shown=is_shown)


def _look(
    place: ReleasePlace,
    release: Release,
    rules: ReleaseConfig,
    stage: str,
    started: float,
    at: float,
    share: float | None,
    drills: tuple[float, ...] = (),
    *,
    is_shown: bool,
) -> None:
    evidence = live_evidence(place.store, place.workflow, release.id, stage)
    look = Look(release.id, stage, datetime.fromtimestamp(at, UTC), 12, share, started, drills=drills)
    keep_verdicts(place.store, judge_all(rules.gates, evidence, look))
    if is_shown:
        keep_verdicts(place.store, shown_verdicts(rules.gates, evidence, look))


def _drill(release_id: str, number: int, at: float, seconds: float) -> dict[str, Any]:
    record = {
        "id": f"drill-{number}",
        "release_id": release_id,
        "kind": "rollback",
        "in_flight": 200,
        "detection_seconds": 0.9,
        "routing_seconds": 0.2,
        "rollback_seconds": seconds,
        "recovery_seconds": seconds + 1.1,
        "is_counted": True,
    }
    return {
        "id": f"drill-{number}",
        "release_id": release_id,
        "at": at,
        "is_counted": True,
        "rollback_seconds": seconds,
        "record": record,
    }


def _bundle(place: ReleasePlace, version: str, at: float, names: str) -> str:
    """A bundle whose policy, prompts and tool policy are of this version, and the rest of none."""
    name = f"sha256:{hashlib.sha256(f'bundle {version}'.encode()).hexdigest()}"

    def part(what: str, of: str, **facts: Any) -> dict[str, Any]:
        sha256 = hashlib.sha256(f"{what}{of}".encode()).hexdigest()
        return {"name": f"{what}{names}", "version": of, "sha256": sha256, "size": 1, "facts": facts}

    manifest: Mapping[str, Any] = {
        "format": "agentrl-bundle/1",
        "policy": part("finqa-ppo", f"step {version}00"),
        "reward_model": None,
        "rubric": None,
        "graders": [part("exact-answer", "2"), part("citation-check", "1")],
        "datasets": [part("finqa-train", "2026-09"), part("finqa-validation", "2026-09")],
        "eval_suites": [part("finqa-frozen", "2026")],
        "prompts": [part("system-prompt", version)],
        "tool_specs": [part("table-lookup", "5"), part("calculator", "2")],
        "tool_policy": {
            **part("tool-policy", "1"),
            "rules": [
                {"tool": "send_report", "decision": "needs_approval"},
                {"tool": "calculator", "decision": "allow"},
            ],
        },
    }
    with place.store.write() as connection:
        row = {"id": name, "name": f"finqa {version}", "parent": None, "created_at": at, "manifest": dict(manifest)}
        connection.execute(place.store.insert(bundles).values(**row).on_conflict_do_nothing())
    return name


def _row(release: Release) -> dict[str, Any]:
    return {**asdict(release), "state": str(release.state)}


def stored_verdicts(place: ReleasePlace) -> Iterator[dict[str, Any]]:
    """All rows of verdicts, for tests that change one."""
    with place.store.read() as connection:
        yield from (dict(row._mapping) for row in connection.execute(verdicts.select()))

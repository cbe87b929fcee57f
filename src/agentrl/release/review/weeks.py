"""A week of a workflow in figures: what its users' sessions came to. The unit is the session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import or_, select

from agentrl.errors import ConfigError
from agentrl.evaluation.intervals import Interval, Resamples, percentile_interval
from agentrl.release.evidence import session_evidence
from agentrl.release.records import SessionEvidence
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions

RESAMPLES = 2000
MIN_DEFINED = 0.95
"""Share of resamples in which a figure must be defined; with less, its interval would leave out the worst."""
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Served:
    """One session that a user had."""

    evidence: SessionEvidence
    steps: int
    """Calls of the model: what the agent planned, acted and answered in."""
    channel: str
    release_id: str


@dataclass(frozen=True)
class WeekFigures:
    """A rate is None where its denominator is 0, and the score where any of its three is."""

    week: str
    """ISO 8601, such as 2026-W46; Monday to Sunday, UTC."""
    sessions: int
    successes: int
    success_known: int
    """Sessions of which somebody said whether they succeeded."""
    success_rate: float | None
    override_known: int
    """Sessions whose override window has closed."""
    overrides: int
    override_rate: float | None
    tool_calls: int
    tool_errors: int
    tool_error_rate: float | None
    score: float | None
    """Reliability: success x (1 - override) x (1 - tool error)."""
    score_low: float | None
    score_high: float | None
    """95 % percentile bootstrap over users, seeded."""
    cost_usd: float | None
    """Of the sessions with a price."""
    unpriced: int
    """Sessions whose cost is not known."""
    cost_per_success_usd: float | None
    """Sum of costs over number of successes, of sessions with both; failures cost, too."""
    cost_low_usd: float | None
    cost_high_usd: float | None
    steps_per_session: float | None
    tool_calls_per_session: float | None

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class WeekDraws:
    """[R] what the score and the cost per success came to in each resample; NaN where undefined."""

    score: Floats
    cost_usd: Floats


def week_of(at: float) -> str:
    """The ISO week of a time in seconds since 1970, in UTC."""
    year, week, _ = datetime.fromtimestamp(at, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def week_bounds(week: str) -> tuple[float, float]:
    """Its first second, and the first of the next week.

    Raises:
        ConfigError: it is no ISO week.
    """
    try:
        year, number = week.split("-W")
        start = datetime.fromisocalendar(int(year), int(number), 1).replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"found week '{week}'; allowed: an ISO week such as 2026-W46") from None
    return start.timestamp(), (start + timedelta(days=7)).timestamp()


def weeks_until(week: str, count: int) -> list[str]:
    """The `count` weeks that end with this one, oldest first."""
    start, _ = week_bounds(week)
    return [week_of(start - 7 * 86400 * back) for back in reversed(range(count))]


def served_sessions(store: Store, workflow: str, since: float, until: float) -> list[Served]:
    """Sessions of users that were assigned in [since, until) and are over: no copies in shadow, none that was forced.

    Raises:
        ReleaseError: the store cannot be read.
    """
    columns = sessions.c
    wanted = (
        select(*(column for column in columns if column.name != "record"))
        .where(
            columns.workflow == workflow,
            columns.channel != "shadow",
            columns.is_forced.is_(False),
            columns.assigned_at >= since,
            columns.assigned_at < until,
            or_(columns.status != "open", columns.closed_at.is_not(None)),
        )
        .order_by(columns.assigned_at, columns.session_id, columns.arm)
    )
    with store.read() as connection:
        rows = connection.execute(wanted).mappings().all()
    return [Served(session_evidence(row), row["requests"], row["channel"], row["release_id"]) for row in rows]


def by_week(served: Sequence[Served], weeks: Sequence[str]) -> Mapping[str, list[Served]]:
    """The sessions of each of the weeks."""
    found: dict[str, list[Served]] = {week: [] for week in weeks}
    for each in served:
        if (week := week_of(each.evidence.at)) in found:
            found[week].append(each)
    return found


def week_figures(week: str, served: Sequence[Served]) -> tuple[WeekFigures, WeekDraws]:
    """The figures of a week, and the resamples that its intervals were read from."""
    sums = _cluster_sums([each.evidence for each in served])
    total = sums.sum(axis=0) if len(sums) else np.zeros(len(_COLUMNS))
    named = dict(zip(_COLUMNS, total.tolist(), strict=True))
    means = Resamples(len(sums), resamples=RESAMPLES).means(sums) if len(sums) else np.zeros((0, len(_COLUMNS)))
    draws = WeekDraws(_score(means), _cost(means))
    score, cost = (_or_none(function(total[None])[0]) for function in (_score, _cost))
    score_interval, cost_interval = interval_of(draws.score), interval_of(draws.cost_usd)
    priced = sum(each.evidence.cost_usd is not None for each in served)
    figures = WeekFigures(
        week=week,
        sessions=len(served),
        successes=int(named["successes"]),
        success_known=int(named["success_known"]),
        success_rate=_ratio(named["successes"], named["success_known"]),
        override_known=int(named["override_known"]),
        overrides=int(named["overrides"]),
        override_rate=_ratio(named["overrides"], named["override_known"]),
        tool_calls=int(named["tool_calls"]),
        tool_errors=int(named["tool_errors"]),
        tool_error_rate=_ratio(named["tool_errors"], named["tool_calls"]),
        score=score,
        score_low=score_interval and score_interval.low,
        score_high=score_interval and score_interval.high,
        cost_usd=sum(each.evidence.cost_usd or 0.0 for each in served) if priced else None,
        unpriced=len(served) - priced,
        cost_per_success_usd=cost,
        cost_low_usd=cost_interval and cost_interval.low,
        cost_high_usd=cost_interval and cost_interval.high,
        steps_per_session=_ratio(sum(each.steps for each in served), len(served)),
        tool_calls_per_session=_ratio(named["tool_calls"], named["calls_known"]),
    )
    return figures, draws


def interval_of(draws: Floats) -> Interval | None:
    """The middle 95 % of the draws; None where there are none, or too many are undefined."""
    defined = draws[np.isfinite(draws)]
    if not len(draws) or len(defined) < MIN_DEFINED * len(draws):
        return None
    return percentile_interval(defined)


_COLUMNS = (
    "successes", "success_known", "overrides", "override_known", "tool_errors", "tool_calls", "calls_known",
    "cost", "cost_successes",
)  # fmt: skip


def _cluster_sums(evidence: Sequence[SessionEvidence]) -> Floats:
    """[clusters, columns] sums of what the sessions of one user came to: they are drawn together."""
    found: dict[str, Floats] = defaultdict(lambda: np.zeros(len(_COLUMNS)))
    for each in evidence:
        is_priced = each.cost_usd is not None and each.success is not None
        found[each.cluster or each.session_id] += (
            bool(each.success),
            each.success is not None,
            bool(each.human_override),
            each.human_override is not None,
            each.tool_errors or 0,
            each.tool_calls or 0,
            each.tool_calls is not None,
            (each.cost_usd or 0.0) if is_priced else 0.0,
            is_priced and bool(each.success),
        )
    return np.array(list(found.values())).reshape(-1, len(_COLUMNS))


def _score(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        success, override, error = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3], sums[:, 4] / sums[:, 5]
    return np.asarray(success * (1 - override) * (1 - error))


def _cost(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = sums[:, 7] / sums[:, 8]
    return np.where(np.isfinite(cost), cost, np.nan)


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

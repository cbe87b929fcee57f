"""The statements that a snapshot asks DuckDB. Nothing that comes from outside is ever part of their text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agentrl.ui.index.episodes import writable
from agentrl.ui.index.records import EpisodeQuery, Order

FILES = "CREATE TABLE files AS FROM files_table"

_ROWS = "FROM read_parquet($paths) r JOIN files f ON r.file = f.file"
_CHANGE = "LEFT JOIN changes c ON c.run = f.run AND c.split = f.split AND c.task_id = r.task_id"
_SELECT = f"SELECT (r.id + f.shift)::BIGINT AS position {_ROWS}"

CHANGES = f"""
CREATE TABLE changes AS
WITH means AS (
    SELECT f.run, f.split, r.task_id,
        avg(r.score) FILTER (f.role = 'first') AS first,
        avg(r.score) FILTER (f.role = 'last') AS last
    {_ROWS}
    WHERE f.role <> '' AND r.outcome <> 'infra_failed' AND r.score IS NOT NULL
    GROUP BY ALL
)
SELECT run, split, task_id, round(last - first, 12) AS change FROM means WHERE first IS NOT NULL AND last IS NOT NULL
"""
"""Of every item that both the first and the last evaluation of a run measured: by how much its mean score grew."""

PAGE = f"""
SELECT r.id, f.run, f.name AS file, r.line, r.rollout_id, r.task_id, r.sample_index, f.split, r.score, r.outcome,
    r.stop_reason, r.failure_class, r.tool_calls, r.repeated_tools, r.output_tokens, r.seconds, r.cost_usd, c.change,
    r.tools, r.question, r.answer
{_ROWS} {_CHANGE}
WHERE r.id IN (SELECT unnest($ids))
"""


@dataclass(frozen=True)
class Ordering:
    """How rows are found and put in order; equals are the newest first."""

    keys: str
    needs_changes: bool = False

    @property
    def select(self) -> str:
        return f"{_SELECT} {_CHANGE}" if self.needs_changes else _SELECT


ORDERS = {
    Order.NEWEST: Ordering("f.newest"),
    Order.LOWEST_REWARD: Ordering("r.score ASC NULLS LAST"),
    Order.HIGHEST_REWARD: Ordering("r.score DESC NULLS LAST"),
    Order.LARGEST_CHANGE: Ordering("abs(c.change) DESC NULLS LAST", needs_changes=True),
    Order.LONGEST: Ordering("r.output_tokens DESC"),
    Order.SLOWEST: Ordering("r.seconds DESC"),
    Order.MOST_CALLS: Ordering("r.tool_calls DESC"),
    Order.REPEATED_TOOLS: Ordering("r.repeated_tools DESC"),
}

_EQUAL = {
    "split": "f.split", "file": "f.name", "task_id": "r.task_id", "outcome": "r.outcome",
    "failure_class": "r.failure_class",
}  # fmt: skip


def conditions(query: EpisodeQuery) -> tuple[str, dict[str, Any]]:
    """What follows WHERE, but for `contains`, and the values of its parameters."""
    found = ["true"]
    values: dict[str, Any] = {}
    for name, column in _EQUAL.items():
        if wanted := getattr(query, name):
            found.append(f"{column} = ${name}")
            values[name] = writable(wanted)
    if query.runs:
        found.append("list_contains($runs, f.run)")
        values["runs"] = [writable(run) for run in query.runs]
    if query.tool:
        found.append("contains(r.tools, $tool)")
        values["tool"] = json.dumps(writable(query.tool))  # as it stands in the list, in its quotes
    if query.min_score is not None:
        found.append("r.score >= $min_score")
        values["min_score"] = query.min_score
    if query.max_score is not None:
        found.append("r.score <= $max_score")
        values["max_score"] = query.max_score
    return " AND ".join(found), values

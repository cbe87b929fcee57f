"""The statements that a snapshot asks DuckDB. Nothing that comes from outside is ever part of their text.

`$paths` are Parquet files of segments; `files` is a table of those of their files of rollouts that are wanted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentrl.ui.index.episodes import writable
from agentrl.ui.index.records import EpisodeQuery, Order

_ROWS = "FROM read_parquet($paths, hive_partitioning := false) r JOIN files f ON r.file = f.file"
_POSITION = "(r.id + f.shift)::INTEGER AS position"
_PATTERN = str.maketrans({char: f"[{char}]" for char in "*?["})

CHANGES = f"""
SELECT f.grp, r.task_id,
    round(avg(r.score) FILTER (f.is_last) - avg(r.score) FILTER (NOT f.is_last), 12) AS change
{_ROWS}
WHERE r.outcome <> 'infra_failed' AND r.score IS NOT NULL
GROUP BY ALL HAVING change IS NOT NULL
"""
"""By how much the mean score of an item grew from the first evaluation to the last; needs both."""

PAGE = """
SELECT id, line, rollout_id, task_id, sample_index, score, outcome, stop_reason, failure_class, tool_calls,
    repeated_tools, output_tokens, seconds, cost_usd, tools, question, answer
FROM read_parquet($paths, hive_partitioning := false) WHERE id IN (SELECT unnest($ids))
"""

FIND = f"SELECT {_POSITION} {_ROWS} WHERE r.rollout_id = $rollout_id ORDER BY f.newness, r.line"

_KEYS = {
    Order.NEWEST: "",
    Order.LOWEST_REWARD: ", r.score AS key",
    Order.HIGHEST_REWARD: ", -r.score AS key",
    Order.LARGEST_CHANGE: ", -abs(c.change) AS key",
    Order.LONGEST: ", -r.output_tokens AS key",
    Order.SLOWEST: ", -r.seconds AS key",
    Order.MOST_CALLS: ", -r.tool_calls AS key",
    Order.REPEATED_TOOLS: ", -r.repeated_tools AS key",
}
"""The smallest comes first, what has none last."""


def matching(query: EpisodeQuery) -> tuple[str, dict[str, Any]]:
    """Positions of the rows that match, in any order, with the key of theirs; and the values of the parameters.

    Which files are wanted, and what text, is not part of it. By change, there is a table `changes` as well.
    """
    where, values = conditions(query)
    by_change = "LEFT JOIN changes c ON c.grp = f.grp AND c.task_id = r.task_id"
    joined = by_change if query.order is Order.LARGEST_CHANGE else ""
    return f"SELECT {_POSITION}{_KEYS[query.order]} {_ROWS} {joined} WHERE {where}", values


def all_keys(order: Order) -> str:
    """The keys of all rows, as they lie in their files."""
    return f"SELECT {_KEYS[order].removeprefix(', ')} FROM read_parquet($paths) r"


def conditions(query: EpisodeQuery) -> tuple[str, dict[str, Any]]:
    """What rows have to fulfil, but for their file and their text; nothing asks for all."""
    found: list[str] = []
    values: dict[str, Any] = {}
    for name in ("task_id", "outcome", "failure_class"):
        if wanted := getattr(query, name):
            found.append(f"r.{name} = ${name}")
            values[name] = writable(wanted)
    if query.tool:
        found.append("contains(r.tools, $tool)")
        values["tool"] = json.dumps(writable(query.tool))  # as it stands in the list, in its quotes
    if query.min_score is not None:
        found.append("r.score >= $min_score")
        values["min_score"] = query.min_score
    if query.max_score is not None:
        found.append("r.score <= $max_score")
        values["max_score"] = query.max_score
    return " AND ".join(found) or "true", values


def literal(path: Path) -> str:
    """The path for `$paths`, where DuckDB takes some characters for patterns that other files match as well."""
    return str(path).translate(_PATTERN)

"""Blocks 3, 4 and 5: what was tested, what each gate says, what users' sessions were like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.release.brief.figure import Figure, estimate_unit, figure, metric_unit
from agentrl.release.brief.records import Record, ReleaseRecords
from agentrl.release.brief.release_blocks import Block

LIVE_METRICS = (
    "task_success",
    "human_override_rate",
    "tool_error_rate",
    "session_seconds",
    "cost_per_success",
    "reliability_score",
)
"""In the order that block 5 tells them."""


def tested(records: ReleaseRecords) -> Block:
    """Suites by digest with cases passed and failed, and every failure by name."""
    rows, failures = [], []
    for row in records.suites:
        record = row["record"]
        source = f"suite_results/{row['id']}"
        failed = record.get("failures") or ()
        rows.append(
            {
                "kind": row["kind"],
                "name": row["name"],
                "digest": row["digest"],
                "is_contaminated": bool(record.get("is_contaminated")),
                **{
                    name: figure(record.get(name), "count", f"{source}#{name}")
                    for name in ("cases", "passed", "failed", "not_graded")
                },
                **{
                    name: figure(record.get(name), _suite_unit(record), f"{source}#{name}")
                    for name in ("estimate", "lower", "upper")
                },
                "measures": str(record.get("measures") or "pass_rate"),
            }
        )
        for case in failed:
            told = case if isinstance(case, Mapping) else {"case": case}
            failures.append(
                {
                    "suite": row["name"],
                    "kind": row["kind"],
                    "case": str(told.get("case") or told.get("id") or ""),
                    "reason": str(told.get("reason") or ""),
                }
            )
    return {
        "rows": rows,
        "failures": failures,
        "failed": figure(len(failures), "count", "twin:len(tested.failures)"),
        "missing": [kind for kind in ("capability", "adversarial", "frozen") if all(r["kind"] != kind for r in rows)],
    }


def gates(records: ReleaseRecords) -> Block:
    """The last look at every gate in each of its stages; a gate that nobody looked at is a row, too."""
    rows = {(row["stage"], row["gate"]): row for row in records.verdicts}
    configured = {gate["name"]: gate for gate in records.config.get("gates") or () if isinstance(gate, Mapping)}
    told = [
        gate_row(row, _configured(row["gate"], configured))
        for row in records.verdicts
        if not row["record"].get("is_shown_only")
    ]
    for name, gate in configured.items():
        for stage in gate.get("stages") or ():
            if (stage, name) not in rows:
                told.append({"gate": name, "stage": stage, "metric": gate.get("metric", ""), "verdict": "missing"})
    stages = ("offline_eval", "shadow", "canary", "general")
    order = list(configured)
    told.sort(
        key=lambda row: (
            stages.index(row["stage"]) if row["stage"] in stages else 9,
            next((index for index, name in enumerate(order) if row["gate"].partition(" on ")[0] == name), len(order)),
            row["gate"],
        )
    )
    return {"rows": told, "confidence": _confidence(told)}


def _configured(name: str, gates: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row of a gate; of one that was read on a further suite, `NAME on SUITE`, that of NAME."""
    return gates.get(name) or gates.get(name.partition(" on ")[0]) or {}


def _confidence(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Of the least certain verdict: 1 - alpha."""
    alphas = [row["alpha"] for row in rows if row.get("alpha") and row["alpha"]["value"] is not None]
    if not alphas:
        return figure(None, "level", "verdicts")
    largest = max(alphas, key=lambda alpha: alpha["value"])
    return figure(round(1 - largest["value"], 12), "level", largest["source"].replace("#alpha", "#confidence"))


def gate_row(row: Record, gate: Mapping[str, Any]) -> dict[str, Any]:
    """One stored verdict, with the units that its numbers are in."""
    record = row["record"]
    source = f"verdicts/{row['id']}"
    metric = str(gate.get("metric") or record.get("metric") or row["gate"])
    unit = metric_unit(metric, str(gate.get("statistic") or ""))
    compared = estimate_unit(str(record.get("scale") or ""), unit)

    def told(name: str, unit: str) -> Figure:
        return figure(record.get(name), unit, f"{source}#{name}")

    return {
        "gate": row["gate"],
        "stage": row["stage"],
        "metric": metric,
        "verdict": row["verdict"],
        "reason": str(record.get("reason") or ""),
        "severity": str(record.get("severity") or ""),
        "test": str(record.get("test") or ""),
        "scale": str(record.get("scale") or ""),
        "direction": str(gate.get("direction") or "lower_is_better"),
        **{name: told(name, compared) for name in ("estimate", "lower", "upper", "margin")},
        **{name: told(name, unit) for name in ("candidate", "baseline")},
        **{name: told(name, "count") for name in ("n_candidate", "n_baseline", "look_no")},
        "alpha": told("alpha", "fraction"),
        "data_digest": str(record.get("data_digest") or ""),
        "gate_digest": str(record.get("gate_digest") or ""),
    }


def live(records: ReleaseRecords) -> Block:
    """Users' sessions of both arms, by the last verdicts on them; cost as it runs, and loaded with people's work."""
    configured = {gate["name"]: gate for gate in records.config.get("gates") or () if isinstance(gate, Mapping)}
    by_metric: dict[str, dict[str, Any]] = {}
    # what decides goes before what is only shown, and the canary, which has two arms, before all that came after
    order = {"canary": 0, "general": 1}
    seen = [row for row in records.verdicts if row["stage"] in order]
    for row in sorted(seen, key=lambda row: (order[row["stage"]], bool(row["record"].get("is_shown_only")))):
        told = gate_row(row, _configured(row["gate"], configured))
        by_metric.setdefault(told["metric"], told)
    rows = [
        {
            "metric": metric,
            **{
                name: by_metric[metric][name] if metric in by_metric else figure(None, metric_unit(metric), "verdicts")
                for name in ("candidate", "baseline")
            },
            "verdict": by_metric[metric]["verdict"] if metric in by_metric else "missing",
        }
        for metric in LIVE_METRICS
    ]
    return {"sessions": _sessions(records), "rows": rows, "loaded": _loaded(records), "trend": _trend(records)}


def _sessions(records: ReleaseRecords) -> dict[str, Any]:
    where = f"sessions[release={records.release['id']},channel=canary"
    arms = {row["arm"]: row for row in records.live if row["channel"] == "canary"}
    times = [row[key] for row in arms.values() for key in ("first", "last")]
    days = (max(times) - min(times)) / 86400 if times else None
    shadowed = sum(row["sessions"] for row in records.live if row["channel"] == "shadow" and row["arm"] == "candidate")
    return {
        **{
            arm: figure(arms[arm]["sessions"] if arm in arms else 0, "count", f"{where},arm={arm}]#count")
            for arm in ("candidate", "baseline")
        },
        "days": figure(days, "days", f"{where}]#days"),
        "shadow": figure(
            shadowed, "count", f"sessions[release={records.release['id']},channel=shadow,arm=candidate]#count"
        ),
    }


def _loaded(records: ReleaseRecords) -> dict[str, Any]:
    """The last week of money that was kept for the workflow: of all its users, not of an arm."""
    row = records.budgets[-1] if records.budgets else None
    record = row["record"] if row else {}
    source = f"budgets/{row['workflow']}/{row['week']}" if row else "budgets"
    currency = str(record.get("currency") or "USD")
    return {
        "week": str(record.get("week") or ""),
        "currency": currency,
        "run": figure(record.get("run_cost_per_success"), currency, f"{source}#run_cost_per_success"),
        "loaded": figure(record.get("loaded_cost_per_success"), currency, f"{source}#loaded_cost_per_success"),
        "value": figure(record.get("value_per_success"), currency, f"{source}#value_per_success"),
        "missing": [str(name) for name in record.get("missing") or ()],
        "is_optimistic": bool(record.get("is_optimistic", True)),
        "pays": record.get("pays"),
        "rate": figure(record.get("per_usd"), "number", f"{source}#per_usd"),
        "rate_source": str(record.get("per_usd_source") or ""),
    }


def _trend(records: ReleaseRecords) -> list[dict[str, Any]]:
    """The reliability score of all users' sessions, a week each, as it was kept."""
    found = []
    for row in records.budgets:
        figures = row["record"].get("figures") or {}
        source = f"budgets/{row['workflow']}/{row['week']}#figures"
        found.append(
            {
                "week": row["week"],
                **{
                    name: figure(figures.get(name), "score", f"{source}.{name}")
                    for name in ("score", "score_low", "score_high")
                },
            }
        )
    return found


def _suite_unit(record: Mapping[str, Any]) -> str:
    return "score" if record.get("measures") == "score" else "fraction"


def smallest_effects(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Half the width of each live interval: a difference smaller than it could not have been told from none."""
    found = []
    for row in rows:
        if row["verdict"] == "missing" or row["stage"] != "canary" or row["scale"] == "value":
            continue
        low, high = row["lower"]["value"], row["upper"]["value"]
        if low is None or high is None:
            continue
        source = row["estimate"]["source"].partition("#")[0]
        unit = {"points": "points_size", "relative": "relative_size"}.get(
            row["estimate"]["unit"], row["estimate"]["unit"]
        )
        found.append(
            {
                "gate": row["gate"],
                "metric": row["metric"],
                "effect": figure((high - low) / 2, unit, f"{source}#half_width"),
            }
        )
    return found

"""The weekly review in words: the record as headings, sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agentrl.release.budget.loaded import OPTIMISTIC
from agentrl.release.review.document import Document, Section, Table, number, percent, span

MAX_INTENTS = 10


def review_document(review: Mapping[str, Any]) -> Document:
    """What `agentrl review` prints and writes."""
    return Document(
        f"Weekly review of {review['workflow']}, {review['week']}",
        [
            Section("Reliability", _reliability(review)),
            Section("More training?", _scaling(review)),
            Section("Money", _money(review)),
            Section("Worst sessions", _worst(review)),
            Section("Where people step in", _overrides(review)),
            Section("Incidents", _incidents(review)),
            Section("Frozen benchmark", _frozen(review)),
        ],
    )


def _reliability(review: Mapping[str, Any]) -> list[str | Table]:
    rows = [
        (
            week["week"],
            number(week["sessions"], 0),
            percent(week["success_rate"]),
            percent(week["override_rate"]),
            percent(week["tool_error_rate"]),
            number(week["score"]),
            span(week["score_low"], week["score_high"]),
            number(week["cost_per_success_usd"], 4),
            number(week["steps_per_session"], 1),
            number(week["tool_calls_per_session"], 1),
        )
        for week in review["weeks"]
    ]
    heads = ("week", "sessions", "success", "override", "tool error", "score", "95 %", "USD/success", "steps", "calls")
    return [
        "score = success x (1 - override) x (1 - tool error); none where one of the three was not measured",
        Table(heads, rows, frozenset({1, 2, 3, 4, 5, 7, 8, 9})),
    ]


def _scaling(review: Mapping[str, Any]) -> list[str | Table]:
    rule = review["scaling"]
    words = {"pause": "PAUSE RL SCALING", "go_on": "go on", "unknown": "not known yet"}
    rows = [
        (
            what,
            number(rule[key]["per_week"], digits),
            span(rule[key]["low"], rule[key]["high"], digits),
            rule[key]["direction"],
        )
        for what, key, digits in (("score", "score", 4), ("USD per success", "cost", 5))
    ]
    return [
        f"{words[rule['action']]}: {rule['reason']}",
        Table(("slope of", "a week", "95 %", "direction"), rows, frozenset({1})),
    ]


def _money(review: Mapping[str, Any]) -> list[str | Table]:
    money = review["budget"]
    code = money["currency"]
    line = (
        f"{code} per success: {number(money['run_cost_per_success'], 4)} as run, "
        f"{number(money['loaded_cost_per_success'], 4)} loaded"
    )
    return [f"{line} ({OPTIMISTIC}: {', '.join(money['missing'])} not given)" if money["missing"] else line]


def _worst(review: Mapping[str, Any]) -> list[str | Table]:
    parts: list[str | Table] = ["ordered by safety, human override, low quality, cost"]
    for place, trace in enumerate(review["worst"], 1):
        override = "not known" if trace["human_override"] is None else "yes" if trace["human_override"] else "no"
        if trace["human_override"]:
            who = [trace.get("human_override_kind"), trace.get("human_override_by"), trace.get("human_override_at")]
            override = " ".join([override, *(str(each) for each in who if each)])
        ended = " ".join(str(each) for each in (trace["outcome"], trace["stop_reason"], trace["failure_class"]) if each)
        rows = [
            ("intent", trace["intent"] or "none given"),
            ("served", f"{trace['at']}, {trace['arm']}, {trace['channel']} {trace['release']}".rstrip()),
            ("ended", ended or trace["status"] or "not recorded"),
            ("success", "not known" if trace["success"] is None else "yes" if trace["success"] else "no"),
            ("safety violations", number(trace["safety_violations"], 0)),
            ("human override", override),
            ("quality", number(trace["quality"])),
            ("cost, time", f"USD {number(trace['cost_usd'], 4)}, {number(trace['seconds'], 1)} s"),
            (
                "steps, calls, errors",
                ", ".join(number(trace[key], 0) for key in ("steps", "tool_calls", "tool_errors")),
            ),
            ("tools in order", " > ".join(trace["tools"] or ()) or "not recorded"),
            ("digests", " ".join(str(trace[f"{key}_digest"] or "")[:19] for key in ("context", "actions", "output"))),
        ]
        parts.append(Table((f"{place}.", trace["session_id"]), rows))
        parts += [f"{place}. {line}" for line in _conversation(trace.get("content"))]
    return parts if review["worst"] else ["no session in this week"]


def _conversation(content: Any) -> list[str]:
    """What was said, where the gateway keeps it; it is redacted."""
    said = content.get("messages") if isinstance(content, Mapping) else content
    if not isinstance(said, list):
        return [] if content is None else [str(content)]
    told = []
    for message in said:
        if isinstance(message, Mapping):
            words = message.get("content")
            calls = message.get("tool_calls")
            told.append(
                f"{message.get('role', '')}: {words if words is not None else ''} {calls if calls else ''}".strip()
            )
        else:
            told.append(str(message))
    return told


def _overrides(review: Mapping[str, Any]) -> list[str | Table]:
    rows = [
        (
            row["intent"] or "none given",
            number(row["sessions"], 0),
            number(row["overrides"], 0),
            percent(row["override_rate"]),
            percent(row["share_of_overrides"]),
            number(row["concentration"], 2),
        )
        for row in review["overrides"]
    ]
    heads = ("intent", "sessions", "overrides", "rate", "share of all", "concentration")
    parts: list[str | Table] = [Table(heads, rows[:MAX_INTENTS], frozenset(range(1, 6)))]
    if len(rows) > MAX_INTENTS:
        parts.append(f"and {len(rows) - MAX_INTENTS} more in the JSON")
    return parts if rows else ["no session whose override window has closed"]


def _incidents(review: Mapping[str, Any]) -> list[str | Table]:
    if not review["incidents"]:
        return ["none in this week"]
    rows = [
        (
            row["id"],
            "closed" if row["is_closed"] else "open",
            row["class"] or "not said",
            row["owner"] or "not said",
            row["cause"] or "not said",
            number(row["recovery_seconds"], 0),
        )
        for row in review["incidents"]
    ]
    heads = ("incident", "state", "class", "owner", "cause", "recovery, s")
    believed = [
        f"{row['incident']}: believed no longer: {row['assumption']}" for row in review["invalidated_assumptions"]
    ]
    return [Table(heads, rows, frozenset({5})), *(believed or ["no assumption was said to be invalid"])]


def _frozen(review: Mapping[str, Any]) -> list[str | Table]:
    if not review["frozen"]:
        return ["no frozen benchmark was measured"]
    rows = [
        (
            row["name"],
            str(row["digest"])[:19],
            row["release"],
            datetime.fromtimestamp(row["at"], UTC).date().isoformat(),
            number(row["estimate"]),
            span(row["lower"], row["upper"]),
        )
        for row in review["frozen"]
    ]
    return [Table(("benchmark", "digest", "release", "day", "result", "95 %"), rows, frozenset({4}))]

"""The report of a hold-out: report.json for machines, report.md for a terminal, report.html with the plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.disk import write_text
from agentrl.evaluation.documents import table, text, whole_page
from agentrl.reward_model.gate import Report
from agentrl.reward_model.measure import GUIDANCE, MATCHED
from agentrl.reward_model.reliability_chart import reliability_chart
from agentrl.runs.files import to_json

REPORT = "report.json"
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Title, heads, rows."""


def write_pages(folder: Path, report: Report, *, name: str) -> None:
    """All forms of the report, and the plot as a file of its own."""
    chart = plot(report)
    write_text(folder / REPORT, to_json(report, indent=2) + "\n")
    write_text(folder / "report.md", markdown(report, name=name))
    write_text(folder / "report.html", _html(report, name, chart))
    if chart:
        write_text(folder / "reliability.svg", chart + "\n")


def plot(report: Report) -> str:
    """The reliability plot of what the gate judges; empty text where there is nothing to plot."""
    is_scores = report["objective"] == "scores"
    judged = report["scores"] if is_scores else report["comparisons"]
    series = [
        (label, kind, judged[key]["reliability"])
        for label, kind, key in (
            ("as it is", "raw", "before_scaling"),
            (f"with temperature {judged.get('temperature', 1):.2f}", "scaled", "scaled"),
        )
        if (judged or {}).get(key, {}).get("reliability")
    ]
    if not series:
        return ""
    x, y = ("estimated score", "mean score") if is_scores else ("claimed confidence", "share decided right")
    return reliability_chart(series, low=0.0 if is_scores else 0.5, x=x, y=y)


def markdown(report: Report, *, name: str) -> str:
    """The report as text."""
    lines = [f"# Reward model {name}", ""]
    lines += [*_verdict(report), ""]
    for title, heads, rows in tables(report):
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _verdict(report: Report) -> list[str]:
    failures = report["gate"]["failures"]
    said = [f"The gate refuses it: {'; '.join(failures)}."] if failures else ["The gate lets it grade."]
    if report["few_examples"]:
        said.append(
            f"It learned from {report['train_examples']} examples; below about {GUIDANCE} reward models were near "
            "chance in arXiv:2210.10760."
        )
    return said


def tables(report: Report) -> Iterator[Table]:
    """Everything that the report says, as tables."""
    pairs, scores, length = report["comparisons"], report["scores"], report["length"]
    reward = report["reward"]
    yield (
        "Hold-out",
        ("", ""),
        [
            ("episodes, tasks", f"{report['episodes']}, {report['tasks']}"),
            ("episodes too long to score", str(report["not_scored"])),
            ("comparisons", str(pairs["n"])),
            ("reward, mean and standard deviation", f"{reward['mean']:.3f}, {reward['std']:.3f}"),
        ],
    )
    if pairs["n"]:
        yield "Comparisons", ("", ""), list(_about_pairs(report))
        yield _claims("Calibration of comparisons", pairs)
        yield _reliability("Reliability of comparisons, with temperature", pairs["scaled"])
        yield _by("Accuracy by length", "tokens that the better one is longer", pairs["by_length_difference"])
        yield _by("Accuracy by turns", "turns of the longer one", pairs["by_turns"])
    if scores:
        rows = [("episodes", str(scores["n"])), ("Spearman", _number(scores["spearman"]))]
        yield "Scores", ("", ""), [*rows, ("Pearson", _number(scores["pearson"]))]
        if "scaled" in scores:
            yield _claims("Calibration of scores", scores)
            yield _reliability("Mean score by decile of the estimate, with temperature", scores["scaled"])
    yield (
        "Length",
        ("correlation of sampled tokens with", "r"),
        [
            ("the reward", _number(length["correlation"])),
            ("the reward, within a task", _number(length["correlation_within_task"])),
            ("the score that was given", _number(length["correlation_of_score"])),
        ],
    )


def _about_pairs(report: Report) -> Iterator[tuple[str, str]]:
    pairs = report["comparisons"]
    low, high = pairs["accuracy_low"], pairs["accuracy_high"]
    yield "accuracy (95 %, Wilson)", f"{pairs['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    low, high = pairs["accuracy_low_by_task"], pairs["accuracy_high_by_task"]
    yield "accuracy, 95 % with tasks drawn again", f"{low:.3f} to {high:.3f}"
    n, matched = pairs["length_matched"], pairs["length_matched_accuracy"]
    yield f"accuracy at equal length (within {MATCHED:.0%}; {n} comparisons)", _number(matched)
    yield "accuracy with both directions of length alike", _number(pairs["length_balanced_accuracy"])
    yield "the better one is the longer one", f"{pairs['better_is_longer']:.3f}"
    if raters := report["raters"]:
        said = f"{raters['agreement']:.3f} ({raters['low']:.3f} to {raters['high']:.3f}) of {raters['pairs']}"
        yield "two people agree: the ceiling", said


def _claims(title: str, judged: Mapping[str, Any]) -> Table:
    columns = [judged[key] for key in ("before_scaling", "scaled")]
    names = {
        "n": "n",
        "accuracy": "accuracy",
        "rmse": "RMSE",
        "nll": "NLL, nats",
        "brier": "Brier",
        "ece": "ECE, equal mass",
        "ece_of_chance": "ECE that chance makes of so few",
        "ece_equal_width": "ECE, equal width",
    }
    rows = [
        (label, *(str(each[key]) if key == "n" else _number(each.get(key), 4) for each in columns))
        for key, label in names.items()
        if any(key in each for each in columns)
    ]
    temperature = f"temperature {judged['temperature']:.3f}, fitted on {judged['fitted_on']} others"
    return title, ("", "as it is", temperature), rows


def _reliability(title: str, claims: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{each['low']:.3f} to {each['high']:.3f}",
            str(each["n"]),
            _number(each["confidence"]),
            _number(each["outcome"]),
        )
        for each in claims.get("reliability", ())
    ]
    return title, ("range", "n", "claimed", "came true"), rows


def _by(title: str, what: str, found: Sequence[Mapping[str, Any]]) -> Table:
    def key(row: Mapping[str, Any]) -> str:
        return str(row["value"]) if "value" in row else f"{row['from']:.0f} to {row['to']:.0f}"

    rows = [
        (key(row), str(row["n"]), _number(row["accuracy"]), f"{row['low']:.3f} to {row['high']:.3f}") for row in found
    ]
    return title, (what, "n", "accuracy", "95 % (Wilson)"), rows


def _number(value: float | None, digits: int = 3) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def _html(report: Report, name: str, chart: str) -> str:
    kind = "worse" if report["gate"]["failures"] else "better"
    said = "".join(f"<p>{text(line)}</p>" for line in _verdict(report))
    body = [f'<header><h1>{text(name)}</h1><div class="verdict {kind}">{said}</div></header>']
    body += [f"<h2>Reliability</h2>{chart}"] if chart else []
    for title, heads, rows in tables(report):
        cells = ("".join(f"<td>{text(cell)}</td>" for cell in row) for row in rows)
        lines = "".join(f"<tr>{row}</tr>" for row in cells)
        body.append(f"<h2>{text(title)}</h2>{table(title, heads if any(heads) else (), lines)}")
    return whole_page(f"{name}: reward model", "".join(body))

"""report.html: one static page of a run that works offline, drawn from whatever the run has recorded so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agentrl.disk import write_text
from agentrl.errors import CheckpointError
from agentrl.evaluation.charts import Series, line_chart, stacked_bars
from agentrl.evaluation.documents import text, whole_page
from agentrl.evaluation.gaming import gaming_section
from agentrl.evaluation.outcome import before_after, quadrants, verdict
from agentrl.evaluation.samples import samples_section
from agentrl.runs import read_json, read_metrics
from agentrl.runs.files import CONFIG, MANIFEST, STOP, SUMMARY, finite

Rows = Sequence[Mapping[str, Any]]

# title, (label, key of metrics.jsonl) of each line, and the range that the axis shows at least
_REWARD_LINES = (
    ("validation", "reward_validation"),
    ("train", "reward_train"),
    ("train, score", "score_train"),
    ("validation, hold-out", "holdout_score_validation"),
)
_CHARTS: tuple[tuple[str, tuple[tuple[str, str], ...], tuple[float, float] | None], ...] = (
    ("Reward", _REWARD_LINES, None),
    ("KL to reference per token, nats", (("", "kl_per_token"),), (0.0, 0.0)),
    ("Tool calls per episode", (("total", "tool_calls"), ("*", "tool_calls_")), (0.0, 0.0)),
    ("Output tokens per episode", (("", "output_tokens"),), (0.0, 0.0)),
    ("Success rate and share lost", (("success", "success_rate"), ("lost", "infra_failed_fraction")), (0.0, 1.0)),
    ("Entropy, nats per token", (("", "entropy"),), None),
    ("Gradient norm before clipping", (("", "grad_norm"),), (0.0, 0.0)),
    ("Clip fraction", (("", "clip_fraction"),), (0.0, 0.0)),
    ("Explained variance of the critic", (("", "explained_variance"),), (0.0, 1.0)),
    ("KL to reference per episode, nats", (("", "kl_per_trajectory"),), (0.0, 0.0)),
)
_HOLDOUT_KEYS = {"score": "", "low": "_low", "high": "_high"}
_PHASES = (("rollout", "seconds_rollout"), ("update", "seconds_update"), ("evaluation", "seconds_evaluation"))


def write_report(run: Path) -> Path:
    """Writes `run/report.html` and returns its path; parts that the run lacks are left out and named.

    Raises:
        OSError: the page cannot be written.
    """
    run = Path(run)
    problems: list[str] = []
    summary = _recorded(run, SUMMARY, problems)
    manifest = _recorded(run, MANIFEST, problems)
    config = _config(run, problems)
    rows: list[dict[str, Any]] = []
    try:
        rows = _by_step([*_baseline_row(summary), *read_metrics(run)])
    except CheckpointError as error:
        problems.append(str(error))
    name = str(config.get("name") or run.resolve().name)
    body = "".join(
        [
            _header(name, summary, manifest, config, rows),
            "".join(f'<p class="note">{text(problem)}</p>' for problem in problems),
            before_after(summary),
            quadrants(summary),
            gaming_section(rows, summary, _recorded(run, STOP, problems)),
            _curves(rows),
            samples_section(run),
        ]
    )
    path = run / "report.html"
    write_text(path, whole_page(f"{name}: agentrl run", body))
    return path


def _recorded(run: Path, name: str, problems: list[str]) -> dict[str, Any]:
    try:
        found = read_json(run, name)
    except CheckpointError as error:
        problems.append(str(error))
        return {}
    return found if isinstance(found, dict) else {}


def _config(run: Path, problems: list[str]) -> dict[str, Any]:
    path = run / CONFIG
    try:
        found = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.append(f"{path} is damaged: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _baseline_row(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The baseline's validation as step 0, so that the curve shows where it started."""
    baseline = summary.get("baseline") or {}
    if finite(baseline.get("reward")) is None:
        return []
    ends = {f"reward_validation_{end}": baseline.get(f"reward_{end}") for end in ("low", "high")}
    watched = (summary.get("holdout") or {}).get("baseline") or {}
    holdout = {f"holdout_score_validation{end}": watched.get(key) for key, end in _HOLDOUT_KEYS.items()}
    gap = {"holdout_gap_validation": watched.get("gap"), "holdout_coverage_validation": watched.get("coverage")}
    return [{"step": 0, "reward_validation": baseline["reward"], **ends, **(holdout | gap if watched else {})}]


def _by_step(rows: Rows) -> list[dict[str, Any]]:
    """One row a step: lines of one step are laid over each other, later ones on top."""
    merged: dict[float, dict[str, Any]] = {}
    for row in rows:
        if (step := finite(row.get("step"))) is not None:
            merged.setdefault(step, {}).update({"step": step, **{k: v for k, v in row.items() if k != "step"}})
    return [merged[step] for step in sorted(merged)]


def _header(
    name: str, summary: Mapping[str, Any], manifest: Mapping[str, Any], config: Mapping[str, Any], rows: Rows
) -> str:
    done = summary.get("steps", int(rows[-1]["step"]) if rows else 0)
    planned = (config.get("ppo") or {}).get("steps")
    seconds, peak = finite(summary.get("wall_seconds")), finite(summary.get("peak_rss_bytes"))
    commit = manifest.get("git_commit")
    changed = " with local changes" if manifest.get("git_has_changes") else ""
    facts = [
        f"seed {summary.get('seed', config.get('seed', 'unknown'))}",
        f"{done} of {planned} steps" if planned is not None else f"{done} steps",
        f"commit {str(commit)[:10]}{changed}" if commit else "no commit recorded",
        f"started {manifest['started_at']}" if manifest.get("started_at") else "",
        f"{seconds / 60:.1f} minutes" if seconds is not None else "",
        f"peak memory {peak / 2**30:.2f} GiB" if peak is not None else "",
    ]
    spans = "".join(f"<span>{text(fact)}</span>" for fact in facts if fact)
    kind, sentences = verdict(summary, f"{done} of {planned}" if planned is not None else str(done))
    return (
        f'<header><h1>{text(name)}</h1><p class="facts">{spans}</p><div class="verdict {kind}">'
        + "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)
        + "</div></header>"
    )


def _curves(rows: Rows) -> str:
    charts, missing = [], []
    for title, lines, y_range in _CHARTS:
        series = [each for label, key in lines for each in _series(rows, label, key)]
        charts.append(line_chart(title, series, y_range=y_range))
        if not charts[-1]:
            missing.append(title)
    title = "Seconds a step, by phase"
    charts.append(stacked_bars(title, [each for label, key in _PHASES for each in _series(rows, label, key)]))
    if not charts[-1]:
        missing.append(title)
    note = f'<p class="note">Not recorded in this run: {text("; ".join(missing))}.</p>' if missing else ""
    return f'<h2>Curves</h2><div class="charts">{"".join(charts)}</div>{note}'


def _series(rows: Rows, label: str, key: str) -> list[Series]:
    """The line of one key, or for the label `*` of every key that starts with it."""
    if label == "*":
        keys = sorted({name for row in rows for name in row if name.startswith(key)})
        return [each for name in keys for each in _series(rows, name.removeprefix(key), name)]
    points = [(row["step"], value) for row in rows if (value := finite(row.get(key))) is not None]
    band = [
        (row["step"], low, high)
        for row in rows
        if (low := finite(row.get(f"{key}_low"))) is not None and (high := finite(row.get(f"{key}_high"))) is not None
    ]
    return [Series(label or key, points, band)] if points else []

"""What a run has measured, found by a name such as `runs/finqa@best`, and as the run was then."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agentrl.errors import AgentRLError, CheckpointError, ConfigError
from agentrl.evaluation.conditions import conditions
from agentrl.evaluation.evaluation_files import Evaluation, read_evaluation
from agentrl.evaluation.past import as_it_was
from agentrl.runs.files import CONFIG, EVALUATIONS, MANIFEST, ROLLOUTS, SUMMARY, read_json, rollouts_path
from agentrl.runs.plain_values import plain_yaml
from agentrl.runs.sound_traces import sound_rollout
from agentrl.runs.trace_files import SUFFIX, read_traces
from agentrl.types import Rollout

AT = "@"
"""Between a run directory and what of it is meant: `runs/finqa@best`."""


def find_evaluation(source: str | Path) -> Evaluation:
    """An evaluation file, or `RUN@WHICH`: baseline, best, final, a step, or the name of a file of rollouts.

    Raises:
        ConfigError: there is no such file, run or evaluation; the message lists those that there are.
    """
    text = str(source)
    try:
        if Path(text).is_file():
            return _file(Path(text))
    except OSError as error:  # a name that is too long for one, for example
        raise ConfigError(f"{text[:100]}: cannot be read ({error.strerror or error})") from error
    run, at, which = text.rpartition(AT)
    if not at:
        hint = f"; of a run, say which evaluation: {text}{AT}best" if (Path(text) / MANIFEST).is_file() else ""
        raise ConfigError(f"{text}: no such evaluation file{hint}")
    if not (Path(run) / MANIFEST).is_file():
        raise ConfigError(f"{text}: {run or '.'} holds no run")
    try:
        return _of_run(Path(run), which, text)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def _file(path: Path) -> Evaluation:
    if path.name.endswith((".jsonl", SUFFIX)):
        name = f"{path.parent.parent}{AT}{path.name.removesuffix(SUFFIX)}"
        hint = f"; of a run, write {name}" if path.parent.name == ROLLOUTS else ""
        raise ConfigError(f"{path}: rollouts alone do not say what they were made under: give NAME.json{hint}")
    run = path.parent.parent
    if path.parent.name == EVALUATIONS and rollouts_path(run, path.stem).is_file():
        raise ConfigError(f"{path}: a run's figures, without its rollouts; write {run}{AT}{path.stem}")
    return read_evaluation(path)


def recorded_name(run: Path, which: str) -> str:
    """The file of rollouts that `baseline`, `best`, `final`, a step such as `5`, or its own name means.

    Where best and last policy are one, or the best is the baseline, an evaluation is not repeated: its twin is meant.
    Of a run that was interrupted, the last and the best policy were measured on the way, with fewer samples an item.

    Raises:
        ConfigError: the run has none; lists those that it has.
    """
    summary = _summary(run)
    steps, best_step = summary.get("steps"), summary.get("best_step")
    wanted: Sequence[str] = (which,)
    if which == "baseline" or (is_step(which) and int(which) == 0):
        wanted = ("validation-baseline",)
    elif which == "final":
        wanted = ("validation-baseline",) if steps == 0 else ("validation-final", *_on_the_way(steps))
    elif which == "best" and best_step is not None:
        twin = "validation-final" if best_step == steps else "validation-best"
        wanted = ("validation-baseline",) if best_step == 0 else (twin, *_on_the_way(best_step))
    elif is_step(which):
        wanted = (*_on_the_way(int(which)), *(("validation-final",) if steps == int(which) else ()))
    for name in wanted:
        if re.fullmatch(r"\w[\w-]*", name) and rollouts_path(run, name).is_file():
            return name
    names = sorted(path.name.removesuffix(SUFFIX) for path in (run / ROLLOUTS).glob(f"*{SUFFIX}"))
    found = ", ".join(name for name in names if not name.startswith("train")) or "none"
    raise ConfigError(
        f"{run}{AT}{which}: the run has no such evaluation; allowed: baseline, best and final once it has ended, a "
        f"step that was evaluated, or one of: {found}"
    )


def _summary(run: Path) -> dict[str, Any]:
    """Empty before the run has one."""
    found = read_json(run, SUMMARY)
    if not isinstance(found, dict | None):
        raise ConfigError(f"{run / SUMMARY}: found {type(found).__name__}; allowed: an object")
    return found or {}


def _on_the_way(step: int | None) -> tuple[str, ...]:
    return () if step is None else (f"validation-{step:06d}",)


def is_step(text: str) -> bool:
    """Whether it is a number in plain digits."""
    return bool(re.fullmatch(r"[0-9]{1,9}", text))


def _of_run(run: Path, which: str, text: str) -> Evaluation:
    try:
        name = recorded_name(run, which)
        file = rollouts_path(run, name)
        manifest = read_json(run, MANIFEST)
        config, versions = as_it_was(plain_yaml(yaml.safe_load((run / CONFIG).read_text("utf-8"))), manifest, file)
        rollouts = tuple(read_traces(file, sound_rollout))
        return Evaluation(
            name=text,
            policy={"kind": "run", "run": str(run), "evaluation": name, "step": _checked_step(run, name, rollouts)},
            conditions=conditions(config, versions, (rollout.task for rollout in rollouts)),
            pass_threshold=float(config["grading"]["pass_threshold"]),
            tools=tuple(versions.get("tools") or ()),
            rollouts=rollouts,
            created_at=str(manifest.get("started_at", "")),
        )
    except (
        OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError
    ) as error:  # fmt: skip
        if isinstance(error, AgentRLError):
            raise
        raise ConfigError(f"{run}: is no whole run ({type(error).__name__}: {error})") from error


def step_of(run: Path, name: str) -> int | None:
    """The training step whose weights an evaluation of a run measured; None where its name does not say."""
    split, _, which = name.partition("-")
    needs_summary = split in ("validation", "test") and not is_step(which)
    return told_step(name, _summary(run) if needs_summary else {})


def told_step(name: str, summary: Mapping[str, Any]) -> int | None:
    """`step_of`, of a run whose summary has been read."""
    split, _, which = name.partition("-")
    if split not in ("validation", "test"):
        return None
    if is_step(which):
        return int(which)
    found = {"baseline": 0, "best": summary.get("best_step"), "final": summary.get("steps")}.get(which)
    return None if found is None else int(found)


def _checked_step(run: Path, name: str, rollouts: Sequence[Rollout]) -> int | None:
    """`step_of`, held against the weights that sampled the rollouts.

    Raises:
        ConfigError: they are of another step: the run was taken up again since, and has not been measured anew.
    """
    step, sampled = step_of(run, name), {version for rollout in rollouts for version in rollout.policy_versions}
    if step is not None and len(sampled) == 1 and sampled != {step}:
        raise ConfigError(
            f"{run}: {name} was sampled at step {sampled.pop()}, and the run's summary says {step}: it was resumed and "
            f"has not ended since; give a step that was evaluated"
        )
    return step

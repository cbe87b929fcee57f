"""From a hosted job to a config, and to an account of what each value came to.

Everything of the job ends in one of three places: in the config (`mapping` says where the two differ), among what has
no equivalent here (`left_out` says what to do about it), or it is a status of the service, which means nothing here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentrl.config import RunConfig
from agentrl.config.messages import explain
from agentrl.config.section import PathParts, dotted
from agentrl.config.source import Source
from agentrl.errors import ConfigError
from agentrl.importing.account import UNKNOWN, LeftOut, about_variables, to_do, without_equivalent
from agentrl.importing.datasets import DataFiles, find_data, unreadable_rows
from agentrl.importing.graders import TOOL_KEYS, hosted_grader
from agentrl.importing.job import Job, read_job
from agentrl.importing.secrets import SECRET_IN_URL, Variables
from agentrl.importing.settings import Mapped, Settings, settings_of
from agentrl.importing.yaml_text import config_text

NO_BASELINE = "path/to/baseline"
RUN_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Imported:
    """A config, and what whoever imported it has to know."""

    text: str
    """The YAML file."""
    mapping: tuple[Mapped, ...]
    left_out: tuple[LeftOut, ...]
    variables: dict[str, tuple[str, ...]]
    """Environment variables to set, and what each is for."""
    to_do: tuple[str, ...]
    """What is still needed, or should be looked at."""
    problems: tuple[str, ...]
    """What a training would refuse."""


def import_job(path: Path, *, baseline: str | None = None, data: Sequence[str] = ()) -> Imported:
    """Carry a reinforcement job over.

    Args:
        path: the job's JSON.
        baseline: the checkpoint to train, a Hugging Face directory.
        data: where its files are, as `--data` says it.

    Raises:
        ConfigError: it is no such job, or one that cannot be carried over; the message names the place in it.
    """
    job = read_job(path)
    files = find_data(job, data)
    rows = len(files.tasks["train"]) if "train" in files.tasks else None
    settings = settings_of(job, rows=rows, longest_context=_longest_context(baseline))
    variables = Variables(job.source)
    left_out = list(without_equivalent(job))
    unknown: list[str] = []
    grader = hosted_grader(job.grader, job.source, unknown)
    tools = [_hosted_tool(tool, index, unknown) for index, tool in enumerate(job.tools)]
    left_out += [LeftOut(key, UNKNOWN) for key in unknown]
    values = _values(job, grader, tools, baseline, files, settings, variables)
    config = _checked(values, job, left_out)
    assert config.grading is not None
    values["workflow"]["reward_model"] = config.grading.name
    text = config_text(_head(job), values, _comments(job, settings))
    variables.refuse_if_in(text)
    return Imported(
        text=text,
        mapping=settings.mapping,
        left_out=tuple(left_out),
        variables={name: tuple(uses) for name, uses in sorted(variables.uses.items())},
        to_do=(*about_variables(variables), *to_do(job, baseline, files, config)),
        problems=(*files.problems, *unreadable_rows(files, config.grading.grader)),
    )


def _hosted_tool(tool: Mapping[str, Any], index: int, unknown: list[str]) -> dict[str, Any]:
    unknown += [f"method.reinforcement.tools[{index}].{key}" for key in tool if key not in (*TOOL_KEYS, "type")]
    return {key: tool[key] for key in TOOL_KEYS if tool.get(key) is not None}


def _values(
    job: Job,
    grader: dict[str, Any],
    tools: list[dict[str, Any]],
    baseline: str | None,
    files: DataFiles,
    settings: Settings,
    variables: Variables,
) -> dict[str, Any]:
    """The config as plain values, in the order of its sections."""
    variables.note_shared(_all_headers((tools, grader)))
    name = RUN_NAME.sub("-", job.suffix or "").strip("-._")[:80]
    target = job.suffix or "imported job"
    return {
        **({"name": name} if name else {}),
        **({"seed": job.seed} if job.seed is not None else {}),
        "workflow": {"target": target, "baseline": baseline or NO_BASELINE, "policy_training": "ppo_kl"},
        "data": files.paths,
        "tools": {"endpoints": [_tool(tool, variables) for tool in tools]},
        "grading": _grading(grader, variables),
        "rollout": settings.rollout,
        "ppo": settings.ppo,
        "evaluation": settings.evaluation,
        "checkpoint": settings.checkpoint,
    }


def _all_headers(value: Any) -> Iterator[Mapping[str, str]]:
    """Headers of all endpoints, at any depth of a grader."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "headers" and isinstance(inner, Mapping):
                yield {name: text for name, text in inner.items() if isinstance(text, str)}
            else:
                yield from _all_headers(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _all_headers(inner)


def _tool(tool: Mapping[str, Any], variables: Variables) -> dict[str, Any]:
    headers = variables.headers(tool.get("headers"), tool["name"])
    url = variables.address(tool["server_url"], headers, tool["name"])
    rest = {key: value for key, value in tool.items() if key not in ("name", "server_url", "headers")}
    if "rate_limit" in rest:
        rest["max_requests_per_second"] = rest.pop("rate_limit")
    return {"name": tool["name"], "server_url": url, **({"headers": headers} if headers else {}), **rest}


def _grading(grader: Mapping[str, Any], variables: Variables) -> dict[str, Any]:
    """The declaration as it is, secrets replaced, and the range that goes with it."""
    declared = deepcopy(dict(grader))
    for name, part in [(str(declared.get("name") or "grader"), declared), *declared.get("graders", {}).items()]:
        if part["type"] == "endpoint":
            written = part.pop("headers", None)
            headers = variables.headers(written if isinstance(written, dict) else None, name)
            if "url" in part:
                part["url"] = variables.address(str(part["url"]), headers, name)
            part.update({"headers": headers} if headers else {})
    grading: dict[str, Any] = {"grader": declared}
    bounds, threshold = declared.get("range"), declared.get("pass_threshold")
    if declared.get("type") == "score_model" and isinstance(bounds, list) and len(bounds) == 2:
        grading |= {"min_score": bounds[0], "max_score": bounds[1]}
    elif isinstance(threshold, int | float) and threshold > 1:
        grading["max_score"] = float(max(10, threshold))
    return grading


def _checked(values: dict[str, Any], job: Job, left_out: list[LeftOut]) -> RunConfig:
    """The config that the values make, without keys of tools and graders that it does not know.

    Raises:
        ConfigError: a value that cannot be carried over; the place is that in the job.
    """
    while True:
        try:
            return RunConfig.model_validate(deepcopy(values))
        except RecursionError:
            raise ConfigError(f"{job.source}: found values that are nested too deeply; allowed: a job") from None
        except ValidationError as error:
            unknown = [tuple(each["loc"]) for each in error.errors() if each["type"] == "extra_forbidden"]
            removed = [path for loc in unknown if (path := _take_out(values, loc)) is not None]
            left_out += [LeftOut(place_in_job(path), UNKNOWN) for path in removed]
            if not removed:
                messages = explain(error, RunConfig, Source(job.source, values))
                lines = [_at_job(message) for _, message in messages]
                many = f"{job.source}: {len(lines)} mistakes\n  " + "\n  ".join(lines)
                raise ConfigError(f"{job.source}: {lines[0]}" if len(lines) == 1 else many) from None


def _take_out(values: dict[str, Any], loc: tuple[int | str, ...]) -> PathParts | None:
    """Remove the key that pydantic's place leads to (it names the members of unions, too); None for one of ours."""
    path: list[int | str] = []
    inner: Any = values
    for part in loc[:-1]:
        is_step = isinstance(part, int) if isinstance(inner, list) else isinstance(inner, dict) and part in inner
        if is_step:  # the others name members of unions
            inner = inner[part]
            path.append(part)
    if path[:1] not in (["tools"], ["grading"]) or not isinstance(inner, dict) or loc[-1] not in inner:
        return None
    del inner[loc[-1]]
    return (*path, loc[-1])


def place_in_job(path: PathParts) -> str:
    """A place in the config, as the job calls it."""
    return _at_job(dotted(path))


def _at_job(message: str) -> str:
    for ours, theirs in (("grading.grader", "grader"), ("tools.endpoints", "tools")):
        if message.startswith(ours):
            return f"method.reinforcement.{theirs}{message.removeprefix(ours)}"
    return message


def _longest_context(baseline: str | None) -> int | None:
    """Tokens that a checkpoint can read, as its config says."""
    try:
        config = json.loads((Path(baseline or "") / "config.json").read_text("utf-8"))
        longest = config.get("max_position_embeddings") or config["text_config"]["max_position_embeddings"]
        return longest if isinstance(longest, int) and longest > 0 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _head(job: Job) -> list[str]:
    lines = [
        f"Imported from {Path(job.source).name}, a reinforcement fine-tuning job for {job.model}.",
        "`agentrl check` shows this config with every default; docs/import-openai.md says what became of what.",
    ]
    for key, value in job.metadata.items():
        shown = "(not shown)" if SECRET_IN_URL.fullmatch(key) else json.dumps(value, ensure_ascii=False)
        lines.append(f"metadata: {key} = {shown}")
    return lines


def _comments(job: Job, settings: Settings) -> dict[str, str]:
    """Beside the keys that hyperparameters became."""
    comments = {}
    for hosted, ours, why in settings.mapping:
        for each in ours.split(", "):
            key = each.split(":")[0]
            if "auto" not in hosted and "not set" not in hosted:
                comments[key] = f"{hosted}: {why}" if key == "ppo.steps" else hosted
    comments["workflow.baseline"] = f"in place of {job.model}"
    comments["ppo.learning_rate"] = (
        f"{comments.get('ppo.learning_rate', 'our default')}; large models want about 1.0e-6"
    )
    return comments

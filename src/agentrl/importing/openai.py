"""From a hosted job to a config, and to an account of what each value came to.

Everything of the job ends in one of three places: in the config (`mapping` says where the two differ), among what has
no equivalent here (`left_out` says what to do about it), or it is a status of the service, which means nothing here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from agentrl.config import RunConfig
from agentrl.config.messages import explain
from agentrl.config.section import PathParts, dotted
from agentrl.config.source import Source
from agentrl.errors import ConfigError
from agentrl.importing.datasets import DataFiles, answer_keys, find_data, remarks, unreadable_rows
from agentrl.importing.graders import TOOL_KEYS, hosted_grader, remarks_on
from agentrl.importing.job import Job, read_job
from agentrl.importing.secrets import Variables
from agentrl.importing.settings import Mapped, Settings, settings_of
from agentrl.importing.yaml_text import config_text

NO_BASELINE = "path/to/baseline"
RUN_NAME = re.compile(r"[^A-Za-z0-9._-]+")
HOSTED_SECONDS = 600
UNKNOWN = "no key of hosted jobs, and left out; what agentrl has for it is to be written by hand"


class LeftOut(NamedTuple):
    """Something of a job that the config does not hold."""

    what: str
    instead: str
    """What to do about it."""


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
    left_out = list(_without_equivalent(job))
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
        to_do=(*_about_variables(variables), *_to_do(job, baseline, files, config)),
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


def _without_equivalent(job: Job) -> Iterator[LeftOut]:
    yield LeftOut(f"model = {job.model}", "train an open model: --baseline names its directory")
    if job.response_format is not None:
        schema = job.response_format.get("json_schema", {})
        named = f"json_schema {schema['name']}" if schema.get("name") else job.response_format["type"]
        yield LeftOut(
            f"response_format = {named}",
            "nothing forces the form of an answer: describe it in the messages, and grade it, for example with a part "
            "of type json_schema in a multi grader (docs/graders.md)",
        )
    for integration in job.integrations:
        yield LeftOut(f"integrations: {integration}", "metrics.jsonl, report.html and curves are in the run directory")
    if job.metadata:
        yield LeftOut("metadata", "kept as comments at the top of the file")
    for key in job.unknown:
        yield LeftOut(key, UNKNOWN)


def _to_do(job: Job, baseline: str | None, files: DataFiles, config: RunConfig) -> Iterator[str]:
    if baseline is None:
        yield "set workflow.baseline to the checkpoint to train (a Hugging Face directory), or import with --baseline"
    elif not Path(baseline).is_dir():
        yield f"workflow.baseline: there is no directory {baseline} yet"
    for split in files.missing:
        file_id = job.training_file if split == "train" else job.validation_file
        what = f"{file_id} is not here: put it" if file_id else "hosted jobs may do without, a run may not: put rows"
        yield f"data.{split}: {what} at {files.paths[split]}, or say where it is with --data, and import again"
    yield from remarks(files, job)
    if job.tools and (keys := answer_keys(files)):
        yield (
            f"tools are sent the whole row, {', '.join(keys)} included, as by the service; where a tool could give it "
            "away, set item_fields: none (agentrl endpoints check looks for leaks)"
        )
    yield from _about_addresses(job)
    yield from _about_scores(config)
    assert config.grading is not None
    yield from remarks_on(config.grading.grader)
    if job.tools or "url" in job.grader:
        seconds = config.tools.endpoints[0].timeout_seconds if config.tools and config.tools.endpoints else 30
        yield (
            f"hosted calls may take {HOSTED_SECONDS} s, calls here {seconds:g} s: raise timeout_seconds, "
            "total_timeout_seconds and rollout.max_seconds for endpoints that are slower"
        )


def _about_variables(variables: Variables) -> Iterator[str]:
    """A job names a variable and the server that it goes to: it could be any, of anything."""
    for name in sorted(variables.of_the_job & os.environ.keys()):
        yield f"${{{name}}} is set here already and will be sent as {', '.join(variables.uses[name])}: is that meant?"


def _about_addresses(job: Job) -> Iterator[str]:
    """Tools at one address are told apart by name; tools of one host with other headers may be a slip."""
    by_url: dict[str, list[str]] = {}
    by_host: dict[str, dict[str, Any]] = {}
    for tool in job.tools:
        by_url.setdefault(tool["server_url"], []).append(tool["name"])
        host = re.sub(r"^\w+://([^/?#]*).*", r"\1", tool["server_url"])
        by_host.setdefault(host, {})[tool["name"]] = tool.get("headers") or {}
    for names in by_url.values():
        if len(names) > 1:
            yield f"tools {', '.join(names)} have one address: its server has to tell them apart by `name`"
    for host, headers in by_host.items():
        if any(each != next(iter(headers.values())) for each in headers.values()):
            yield f"tools {', '.join(headers)} of {host} have different headers; check that this is meant"


def _about_scores(config: RunConfig) -> Iterator[str]:
    assert config.grading is not None
    grading = config.grading
    if grading.grader.type in ("endpoint", "python", "multi"):
        yield (
            f"scores are taken to lie from {grading.min_score:g} to {grading.max_score:g}; others leave an episode "
            "ungraded: set grading.min_score and grading.max_score if the grader has another range"
        )


def _head(job: Job) -> list[str]:
    lines = [
        f"Imported from {Path(job.source).name}, a reinforcement fine-tuning job for {job.model}.",
        "`agentrl check` shows this config with every default; docs/import-openai.md says what became of what.",
    ]
    lines += [f"metadata: {key} = {json.dumps(value, ensure_ascii=False)}" for key, value in job.metadata.items()]
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

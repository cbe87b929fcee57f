"""What whoever imports a job has to know: what has no equivalent here, and what is still to be done or looked at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from agentrl.config import RunConfig
from agentrl.config.section import did_you_mean
from agentrl.importing.datasets import DataFiles, answer_keys, remarks
from agentrl.importing.graders import remarks_on
from agentrl.importing.job import HYPERPARAMETERS, REINFORCEMENT, REQUEST, Job
from agentrl.importing.secrets import Variables

HOSTED_SECONDS = 600
HOSTED = (*REQUEST, *REINFORCEMENT, *HYPERPARAMETERS)
"""Keys that a job may have, to name the one that is meant by another."""
UNKNOWN = "no key of hosted jobs, and left out; what agentrl has for it is to be written by hand"


class LeftOut(NamedTuple):
    """Something of a job that the config does not hold."""

    what: str
    instead: str
    """What to do about it."""


def without_equivalent(job: Job) -> Iterator[LeftOut]:
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
        yield LeftOut(key, f"{UNKNOWN}{did_you_mean(key.rpartition('.')[2], HOSTED)}")


def to_do(job: Job, baseline: str | None, files: DataFiles, config: RunConfig) -> Iterator[str]:
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


def about_variables(variables: Variables) -> Iterator[str]:
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

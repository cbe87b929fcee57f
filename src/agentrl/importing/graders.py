"""The grader of a job, as it may stand in a config: hosted kinds with hosted keys, and nothing else.

A job may come from anybody. Keys that only agentrl knows are not taken from one: `sandbox: unisolated` beside a python
grader's source would undo what the sandbox is for.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from agentrl.config.graders import GraderSection, MultiConfig, PythonConfig, TextSimilarityConfig
from agentrl.config.graders.judges import JudgedSection
from agentrl.config.graders.union import by_name
from agentrl.errors import ConfigError
from agentrl.importing.job import kind, shown

EVERY = ("type", "name", "pass_threshold")
KEYS: dict[str, tuple[str, ...]] = {
    "string_check": ("input", "reference", "operation"),
    "text_similarity": ("input", "reference", "evaluation_metric"),
    "score_model": ("model", "input", "range", "sampling_params"),
    "label_model": ("model", "input", "labels", "passing_labels"),
    "python": ("source", "image_tag"),
    "endpoint": ("url", "headers", "rate_limit"),
    "multi": ("graders", "calculate_output"),
}
"""What a grader of each kind may hold, besides EVERY."""
TOOL_KEYS = ("name", "server_url", "headers", "rate_limit", "description", "parameters")
GRADER = "method.reinforcement.grader"


def hosted_grader(declared: Any, source: str, left_out: list[str], place: str = GRADER) -> dict[str, Any]:
    """The declaration with its hosted keys; parts of `multi` by name, whichever way they were written.

    Args:
        source: the job's file, for messages.
        left_out: gets the places of all other keys.

    Raises:
        ConfigError: it is no grader of a hosted kind.
    """
    if not isinstance(declared, Mapping):
        raise ConfigError(f"{source}: {place}: found {kind(declared)}; allowed: an object with type")
    wanted = declared.get("type")
    allowed = [each for each in KEYS if each != "multi" or place == GRADER]
    if wanted not in allowed:
        what = f"found {shown(wanted)}" if wanted is not None else "missing"
        raise ConfigError(f"{source}: {place}.type: {what}; allowed: {', '.join(allowed)}")
    known = (*EVERY, *KEYS[wanted])
    left_out += [f"{place}.{key}" for key in declared if key not in known]
    kept = {key: value for key, value in declared.items() if key in known and value is not None}
    if wanted == "multi":
        parts = by_name(kept.get("graders"))
        if not isinstance(parts, Mapping):
            found = "parts without names of their own" if isinstance(parts, list) else kind(parts)
            raise ConfigError(f"{source}: {place}.graders: found {found}; allowed: graders by name, or a list of named")
        kept["graders"] = {
            str(name): hosted_grader(part, source, left_out, f"{place}.graders.{name}") for name, part in parts.items()
        }
    return kept


def remarks_on(grader: GraderSection) -> Iterator[str]:
    """What a grader needs here, and where it differs from its hosted self."""
    parts = dict(grader.graders) if isinstance(grader, MultiConfig) else {grader.name or "of the job": grader}
    for name, part in parts.items():
        if isinstance(part, JudgedSection):
            yield (
                f"grader {name} asks {part.model} at https://api.openai.com/v1 with OPENAI_API_KEY; another server is "
                "named by judge.base_url, or by AGENTRL_JUDGE_BASE_URL. A reply that is no verdict scores 0 there and "
                "leaves an episode ungraded here (judge.on_parse_error)"
            )
        elif isinstance(part, PythonConfig):
            yield (
                f"grader {name}: an exception scores 0 there and leaves an episode ungraded here (on_error); its code "
                "runs in a sandbox (docs/sandbox.md)"
            )
            if lacking := [module for module in _imports(part.source) if not _is_installed(module)]:
                yield f"grader {name} imports {', '.join(lacking)}, which are not installed here"
        elif isinstance(part, TextSimilarityConfig):
            yield f"grader {name}: {part.evaluation_metric} may differ a little from the hosted one (docs/graders.md)"


def _imports(source: str) -> list[str]:
    """Top-level modules that the code imports, in their order."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= dict.fromkeys(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module.split(".")[0]] = None
    return list(found)


def _is_installed(module: str) -> bool:
    try:
        return module in sys.stdlib_module_names or find_spec(module) is not None
    except (ImportError, ValueError):
        return False

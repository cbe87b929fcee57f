"""Which version of everything a run uses: as digests where we hold the thing, else as its owner tells it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl import __version__
from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.disk import file_digest


def versions(
    config: RunConfig,
    splits: Splits,
    tokenizer: Any,
    told: Mapping[str, str],
    tools: Sequence[str] = (),
    graders: Mapping[str, str] | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """The `versions` of manifest.json; null is what nobody tells.

    Args:
        tokenizer: the policy's; None for a model behind an API.
        told: by endpoints, see `check_endpoints`, and by MCP servers: "grader NAME" and "tool NAME" to a version.
        tools: names of all the tools.
        graders: name to digest, of the one that scores and of the hold-outs.
        model: what stands for the digest of the baseline, where it is not what is rolled out.
    """
    grading = training_sections(config).grading
    return {
        "model": model or _weights_digest(Path(config.workflow.baseline)),
        "tokenizer": None if tokenizer is None else tokenizer_digest(tokenizer),
        "dataset": f"{splits.digest()} ({splits})",
        "reward_model": config.workflow.reward_model or grading.name,
        "graders": dict(graders or {}),
        "grader": told.get(f"grader {grading.name}"),
        "rubric": told.get(f"rubric {grading.name}"),
        "tools": {name: told.get(f"tool {name}") for name in tools},
        "agentrl": __version__,
    }


def _weights_digest(folder: Path) -> str:
    """sha256 of what the network is: its weights and its config, not its tokenizer."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors" or path.name == "config.json":
            digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 of what turns conversations into ids: the tokens, how text is cut into them, and the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {
        "tokens": backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "template": tokenizer.chat_template,
    }
    return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()}"

"""The model card of an exported policy: what it is, from what, how good, where it ends, and how to check all that.

Every figure comes from an evaluation in the bundle; what nobody measured or stated says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from agentrl.printable import printable
from agentrl.release.registry.bundle import Bundle
from agentrl.release.registry.manifest import Part
from agentrl.release.registry.scan import NOT_STATED

MISSING = "not recorded"
FIGURES = {
    "success_rate": "success rate",
    "reward": "mean score",
    "tool_calls": "tool calls per session",
    "output_tokens": "output tokens per session",
    "cost_usd": "cost per session, USD",
    "cost_per_success": "cost per success, USD",
}


def model_card(bundle: Bundle, *, is_adapter: bool = False) -> str:
    """The card as Markdown, with the front matter that hubs read."""
    workflow = _text(bundle.manifest.get("workflow") or "policy")
    blocks = [
        _front_matter(bundle, is_adapter),
        f"# {workflow}",
        "\n".join(_summary(bundle, is_adapter)),
        "## Made from",
        _table(("part", "version", "sha256"), _made_from(bundle)),
        "## Measured",
        "\n\n".join(_measured(bundle)),
        "## Data, licences and what was looked for",
        "\n".join(_scanned(bundle)),
        "## Limits",
        "\n".join(_limits(bundle)),
        "## How to verify",
        "\n".join(_verify(bundle, is_adapter)),
    ]
    return "\n\n".join(blocks) + "\n"


def _front_matter(bundle: Bundle, is_adapter: bool) -> str:
    licences = (bundle.manifest.get("scan") or {}).get("licences") or {}
    licence = licences.get("policy", NOT_STATED)
    if licence == NOT_STATED:
        licence = licences.get("baseline", NOT_STATED)
    head: dict[str, Any] = {
        "license": "other" if licence == NOT_STATED else licence,
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["agentrl", "reinforcement-learning", "ppo", "tool-use"],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False).strip()}\n---"


def _summary(bundle: Bundle, is_adapter: bool) -> Iterator[str]:
    policy, baseline = bundle.part("policy"), bundle.part("baseline")
    what = "An adapter (LoRA) of a policy" if is_adapter else "A policy"
    yield (
        f"{what} for the workflow **{_text(bundle.manifest.get('workflow') or MISSING)}**, trained from its baseline "
        "by PPO with a KL penalty (agentrl)."
    )
    yield ""
    yield f"- bundle: `{bundle.id}`"
    yield f"- policy: {_text(policy.version if policy else MISSING)}, {_bytes(policy.size if policy else 0)}"
    yield f"- baseline: {_text(baseline.version if baseline else MISSING)}"
    yield f"- follows: {f'`{bundle.parent}`' if bundle.parent else 'no earlier bundle'}"


def _made_from(bundle: Bundle) -> Iterator[tuple[str, ...]]:
    shown = ("policy", "baseline", "reward_model", "rubric", "tool_policy", "trainer_config")
    for key in shown:
        part = bundle.part(key)
        yield (key.replace("_", " "), *_cells(part)) if part else (key.replace("_", " "), "none", "")
    for key in ("graders", "datasets", "prompts", "tool_specs", "eval_suites"):
        for part in bundle.many(key):
            yield f"{key.replace('_', ' ')}: {_text(part.name)}{_tasks(part)}", *_cells(part)
    code = bundle.manifest.get("code_version") or {}
    commit = code.get("git_commit")
    changed = " with changes" if code.get("git_has_changes") else ""
    yield "code", f"agentrl {_text(code.get('agentrl') or MISSING)}", f"commit {commit}{changed}" if commit else MISSING
    yield "seeds", _text(", ".join(f"{key} {value}" for key, value in (bundle.manifest.get("seeds") or {}).items())), ""


def _cells(part: Part) -> tuple[str, str]:
    version = part.version if len(part.version) <= 40 else f"{part.version[:37]}..."
    return _text(version), f"`{part.sha256[:12]}`"


def _tasks(part: Part) -> str:
    return f" ({part.facts['tasks']} tasks)" if "tasks" in part.facts else ""


def _measured(bundle: Bundle) -> Iterator[str]:
    found = bundle.many("evaluations")
    if not found:
        yield "Nothing was measured: no evaluation is part of this bundle."
        return
    rows = []
    for part in found:
        figures = part.facts.get("figures") or {}
        for name, label in FIGURES.items():
            if isinstance(level := figures.get(name), Mapping):
                n_items = str(part.facts.get("items", MISSING))
                rows.append((_text(part.name), label, _number(level.get("value")), _interval(level), n_items))
    yield _table(("evaluation", "figure", "value", "95 % interval", "items"), rows)
    yield "Intervals are percentile bootstraps over items. Every rollout is in the bundle, by digest."


def _scanned(bundle: Bundle) -> Iterator[str]:
    scan = bundle.manifest.get("scan") or {}
    for name, licence in (scan.get("licences") or {"policy": NOT_STATED}).items():
        yield f"- licence of the {_text(name)}: {_text(licence)}"
    found = scan.get("found") or {}
    for part, kinds in found.items():
        yield f"- {_text(part)}: " + ", ".join(f"{count} x {_text(kind)}" for kind, count in kinds.items())
    if not scan.get("looked_at"):
        yield "- nobody looked for secrets and personal data"
    elif not found:
        yield f"- no secrets or personal data were recognised in {len(scan['looked_at'])} parts"
    yield "- recognisers know forms (" + ", ".join(scan.get("locales") or ()) + "): a name in words is not found"


def _limits(bundle: Bundle) -> Iterator[str]:
    yield "- Measured on the suites and splits above, and on nothing else."
    if not bundle.many("eval_suites"):
        yield "- No frozen suite is part of the bundle: adversarial behaviour was not measured here."
    if bundle.part("tool_policy") is None:
        yield "- No tool policy is part of the bundle: whoever serves it decides which calls are carried out."
    yield "- Whether it serves users is decided by release gates, whose brief names this bundle."


CHECK = """\
import hashlib, json
def sha256(name): return hashlib.sha256(open(name, "rb").read()).hexdigest()
print("bundle sha256:" + sha256("agentrl-bundle.json"))
assert json.load(open("agentrl-bundle.json"))["policy"]["sha256"] == sha256("agentrl-files.json")
for name, file in json.load(open("agentrl-files.json"))["files"].items():
    if name != "README.md":
        assert sha256(name) == file["sha256"], name
print("all as it was")"""
"""What anybody can run in an exported folder, without agentrl."""


def _verify(bundle: Bundle, is_adapter: bool) -> Iterator[str]:
    yield "With the config of the place that keeps the bundle, all of it, data and evaluations included:"
    yield ""
    yield f"    agentrl bundle verify CONFIG {bundle.id[:19]}"
    if is_adapter:
        return
    yield ""
    yield "Without it, the files of this folder, from inside of it. The bundle that it prints must be the one above:"
    yield ""
    yield "```python"
    yield CHECK
    yield "```"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _text(value: Any) -> str:
    """Without what a page would obey: names come from folders, servers and data."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(str(value)))


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"


def _interval(level: Mapping[str, Any]) -> str:
    low, high = level.get("low"), level.get("high")
    return f"{_number(low)} to {_number(high)}" if low is not None and high is not None else "too few items"


def _bytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

"""Which parts a policy was made from: those that its run recorded, and those that its config names.

The parts of a run's policy are those of the run, not of today: its own config.yaml, and its data only where they are
still the data that it was trained on.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from agentrl.config import RunConfig
from agentrl.config.tools import FUNCTION
from agentrl.data.tasks import SPLITS, Splits, load_tasks
from agentrl.disk import file_digest
from agentrl.errors import ConfigError, ReleaseError
from agentrl.evaluation.conditions import conditions, public_declaration, tasks_digest
from agentrl.evaluation.contender import BASELINE, PolicySource
from agentrl.evaluation.evaluation_files import Evaluation, rollouts_beside, write_evaluation
from agentrl.evaluation.run_evaluations import AT, find_evaluation
from agentrl.evaluation.suites import read_suite
from agentrl.policy.folders import DIGESTS, damage
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.formats import check_format
from agentrl.release.registry.listing import files_below, put_files
from agentrl.release.registry.manifest import FILE, FOLDER, Part
from agentrl.runs.files import CONFIG, MANIFEST, read_json
from agentrl.runs.manifest import environment_manifest
from agentrl.runs.plain_values import plain_yaml
from agentrl.strict_json import canonical_json

MAX_SOURCE_BYTES = 1_000_000
"""Of a file that a grader's declaration names."""


@dataclass(frozen=True)
class Origin:
    """What a bundle is made of."""

    config: RunConfig
    """Where its releases are kept, and what serves it."""
    source: PolicySource
    run: Path | None
    """Of training; None of weights that come from elsewhere."""
    recorded: Mapping[str, Any]
    """manifest.json of the run, or what is known of this machine now."""
    trainer: RunConfig = field(repr=False)
    """The config that the policy was trained under; without a run, `config`."""

    @property
    def versions(self) -> Mapping[str, Any]:
        """Of all that the run used, as it recorded them."""
        processes = [self.recorded, *self.recorded.get("resumed", [])]
        return processes[-1].get("versions") or {}

    @property
    def name(self) -> str:
        """For people, such as `finqa@best`: where the run stands on this machine is nobody's business."""
        run, at, which = self.source.name.rpartition(AT)
        return f"{Path(run).name}{at}{which}" if self.run else Path(self.source.name).name

    @property
    def folder(self) -> Path:
        """With the policy's weights."""
        return self.source.folder or Path(self.trainer.workflow.baseline)


def find_origin(config: RunConfig, text: str) -> Origin:
    """`RUN@best`, a folder of weights, or `baseline`.

    Raises:
        ConfigError: there are no such weights, or the run's records cannot be read.
    """
    source = PolicySource.find(text)
    run, at, _ = text.rpartition(AT)
    if not at or not (Path(run) / MANIFEST).is_file():
        return Origin(config, source, None, environment_manifest(), config)
    try:
        written = plain_yaml(yaml.safe_load((Path(run) / CONFIG).read_text("utf-8")))
        trainer = RunConfig.model_validate(written)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{Path(run) / CONFIG}: cannot be read as a config ({error})") from None
    return Origin(config, source, Path(run), read_json(Path(run), MANIFEST) or {}, trainer)


class Gatherer:
    """Puts what it finds among the blobs, and says under which digests."""

    def __init__(self, blobs: BlobStore, origin: Origin, *, is_linked: bool = False) -> None:
        self._blobs, self._origin, self._is_linked = blobs, origin, is_linked

    def policy(self) -> Part:
        """The policy's weights, tokenizer and chat template.

        Raises:
            ReleaseError: the folder holds what may run code, or is damaged.
        """
        step = re.search(r"(?:policy|step)-(\d+)", str(self._origin.folder.resolve()))
        version = f"step {int(step[1])}" if step and self._origin.run else self._origin.name
        is_adapter = (self._origin.folder / "adapter_config.json").is_file()
        return self._weights("policy", self._origin.folder, version, {"is_adapter": is_adapter})

    def baseline(self) -> Part:
        """What it was trained from."""
        folder = Path(self._origin.trainer.workflow.baseline)
        if not folder.is_dir():
            raise ConfigError(f"workflow.baseline: {folder} is no folder")
        told = self._origin.recorded.get("baseline_digest") or self._origin.trainer.workflow.baseline_digest
        return self._weights("baseline", folder, str(told or folder.name), {})

    def trainer_config(self) -> Part:
        """The whole config of training, as the run resolved it."""
        run = self._origin.run
        config = yaml.safe_dump(self._origin.trainer.model_dump(mode="json"), sort_keys=True, allow_unicode=True)
        text = (run / CONFIG).read_text("utf-8") if run else config
        return self._bytes("trainer_config", str(self._origin.recorded.get("run_hash") or ""), text.encode())

    def reward_model(self) -> Part | None:
        """The learned reward model's folder, or what the grader that rewards is declared as."""
        grading = self._origin.trainer.grading
        if grading is None:
            return None
        folder = Path(str(getattr(grading.grader, "folder", "") or getattr(grading.grader, "path", "") or ""))
        version = str((self._origin.versions.get("graders") or {}).get(grading.name) or "")
        if folder != Path() and folder.is_dir():
            return self._weights(grading.name, folder, version, {"kind": grading.grader.type})
        return replace(self._declared(grading.name, version, grading.grader), facts={"kind": grading.grader.type})

    def graders(self) -> list[Part]:
        """Every grader, hold-outs included: its declaration, and the files that this names."""
        grading, versions = self._origin.trainer.grading, self._origin.versions.get("graders") or {}
        found = [] if grading is None else [grading.grader, *grading.holdout]
        parts = []
        for index, each in enumerate(found):
            name = each.name or each.type
            part = self._declared(name, str(versions.get(name) or ""), each)
            parts.append(replace(part, facts={"kind": each.type, "is_holdout": index > 0}))
        return parts

    def rubric(self) -> Part | None:
        """The criteria of the judge, or which rubric the grader's server said that it has; None where neither does."""
        grading = self._origin.trainer.grading
        declared = grading and getattr(grading.grader, "rubric", None)
        if declared and Path(declared).is_file():
            sha256, size = self._blobs.put_file(Path(declared))
            return Part(Path(declared).name, str(self._origin.versions.get("rubric") or ""), sha256, size)
        criteria = grading and getattr(grading.grader, "criteria", None)
        if criteria:
            plain = [each.model_dump(mode="json") for each in criteria]
            return self._bytes("rubric", str(getattr(grading and grading.grader, "version", "")), canonical_json(plain))
        if told := self._origin.versions.get("rubric"):
            return self._bytes("rubric", str(told), canonical_json({"told_by_server": told}))
        return None

    def datasets(self, splits: Splits | None) -> list[Part]:
        """The tasks of every split, one a line."""
        if splits is None:
            return []
        parts = []
        for split in SPLITS:
            if tasks := getattr(splits, split):
                lines = (
                    json.dumps({"id": task.id, "messages": task.messages, "item": task.item}, sort_keys=True) + "\n"
                    for task in tasks
                )
                part = self._bytes(split, tasks_digest(tasks), "".join(lines).encode())
                parts.append(replace(part, facts={"tasks": len(tasks)}))
        return parts

    def prompts(self, splits: Splits | None) -> list[Part]:
        """What the policy is told before the user speaks: the system messages of all tasks, each once."""
        tasks = [] if splits is None else [task for split in SPLITS for task in getattr(splits, split)]
        told = {
            str(message.get("content")): None
            for task in tasks
            for message in task.messages
            if message.get("role") in ("system", "developer")
        }
        if not told:
            return []
        part = self._bytes("system", "", canonical_json(list(told)))
        return [replace(part, version=part.sha256[:12], facts={"prompts": len(told)})]

    def tool_specs(self) -> list[Part]:
        """Every tool's declaration, without its headers and environment."""
        config = self._origin.config if self._origin.config.tools else self._origin.trainer
        declared = conditions(config.model_dump(mode="json"), {}, ())["tools"]
        told = self._origin.versions.get("tools") or {}
        parts = []
        for kind in ("endpoints", "python", "mcp"):
            for name, each in sorted((declared.get(kind) or {}).items()):
                part = self._bytes(name, str(told.get(name) or ""), canonical_json({"kind": kind, **each}))
                parts.append(replace(part, version=part.version or part.sha256[:12]))
        return parts

    def tool_policy(self) -> Part | None:
        """Which calls are allowed, denied, or need a person's word; None where the config has no such rules."""
        policy = self._origin.config.tools.policy if self._origin.config.tools else None
        if policy is None:
            return None
        part = self._bytes("tool_policy", "", canonical_json(policy.model_dump(mode="json")))
        return replace(part, version=part.sha256[:12])

    def suites(self, paths: Sequence[Path]) -> list[Part]:
        """Suites with their items; the digest by which decisions name them is the version's second half."""
        parts = []
        for path in paths:
            suite = read_suite(path)
            record = json.loads(path.read_text("utf-8"))
            files = {path.name: path, str(record["items"]): path.with_name(str(record["items"]))}
            sha256, size = put_files(self._blobs, files)
            facts = {"digest": suite.digest, "tasks": len(suite.tasks), "frozen_at": suite.frozen_at}
            parts.append(Part(suite.name, suite.version, sha256, size, FOLDER, facts))
        return parts

    def evaluations(self, sources: Sequence[str]) -> list[Part]:
        """Measurements whole, with every rollout: files that `agentrl eval` wrote, or `RUN@best`."""
        parts = []
        for source in sources:
            found = _without_place(find_evaluation(source))
            with tempfile.TemporaryDirectory() as name:
                path = Path(source)
                if not path.is_file():
                    path = write_evaluation(Path(name) / "evaluation.json", found)
                files = {"evaluation.json": path, rollouts_beside(path).name: rollouts_beside(path)}
                sha256, size = put_files(self._blobs, files)
            facts = {"name": found.name, **_figures(found)}
            parts.append(Part(_label(found), found.created_at, sha256, size, FOLDER, facts))
        return parts

    def recorded_evaluations(self) -> list[str]:
        """What the run itself measured of this policy and of its baseline."""
        run, which = self._origin.run, self._origin.source.name.rpartition(AT)[2]
        found = []
        for name in (which, BASELINE, f"test-{which}", f"test-{BASELINE}") if run else ():
            try:
                find_evaluation(f"{run}{AT}{name}")
            except ConfigError:
                continue
            found.append(f"{run}{AT}{name}")
        return list(dict.fromkeys(found))

    def _weights(self, name: str, folder: Path, version: str, facts: Mapping[str, Any]) -> Part:
        if (folder / DIGESTS).is_file() and (wrong := damage(folder)):
            raise ReleaseError(wrong)
        files = {inside: path for inside, path in files_below(folder.resolve()).items() if inside != DIGESTS}
        for inside, path in files.items():
            check_format(path, f"{folder}/{inside}")
        if not any(inside.endswith(".safetensors") for inside in files):
            raise ReleaseError(f"{folder}: holds no .safetensors file")
        sha256, size = put_files(self._blobs, files, is_linked=self._is_linked)
        return Part(name, version, sha256, size, FOLDER, {**facts, "files": len(files)})

    def _bytes(self, name: str, version: str, data: bytes) -> Part:
        return Part(name, version, self._blobs.put_bytes(data), len(data), FILE)

    def _declared(self, name: str, version: str, declared: Any) -> Part:
        """A declaration as JSON without secrets, beside the files and sources that it names."""
        public = public_declaration(declared.model_dump(mode="json"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "declaration.json"
            path.write_bytes(canonical_json({**public, "name": name}))
            files = {"declaration.json": path, **_named_files(public)}
            sha256, size = put_files(self._blobs, files)
        return Part(name, version or sha256[:12], sha256, size, FOLDER)


def load_splits(origin: Origin) -> Splits | None:
    """The tasks that the policy was trained on; None where the config names none.

    Raises:
        ConfigError: they cannot be read, or are no longer those of the run.
    """
    if origin.trainer.data is None:
        return None
    splits = load_tasks(origin.trainer.data)
    told = str(origin.versions.get("dataset") or "")
    if told and not told.startswith(splits.digest()):
        raise ConfigError(
            f"data: found {splits.digest()}; {origin.run} was trained on {told.split(' ')[0]}: bring the data back as "
            "they were"
        )
    return splits


def _named_files(declared: Mapping[str, Any]) -> dict[str, Path]:
    """Files that a declaration names by path, and the sources of the functions that it names."""
    found: dict[str, Path] = {}
    for text in _texts(declared):
        path = _source_of(text) if FUNCTION.fullmatch(text) else Path(text) if 0 < len(text) < 500 else None
        if path is None or "\n" in text:
            continue
        try:
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_SOURCE_BYTES:
                found[f"files/{file_digest(path)[:12]}-{path.name}"] = path
        except (OSError, ValueError):
            continue
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _source_of(function: str) -> Path | None:
    try:
        spec = find_spec(function.partition(":")[0])
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _without_place(found: Evaluation) -> Evaluation:
    """Where a run stands on this machine is no part of what it measured: elsewhere it is the same bundle."""
    if "run" not in found.policy:
        return found
    run, at, which = found.name.rpartition(AT)
    policy = {**found.policy, "run": Path(str(found.policy["run"])).name}
    return replace(found, name=f"{Path(run).name}{at}{which}", policy=policy)


def _label(found: Evaluation) -> str:
    run = found.policy.get("evaluation")
    return str(run) if run else Path(found.name).name


def _figures(found: Evaluation) -> dict[str, Any]:
    from agentrl.evaluation.policy_figures import policy_figures  # late: it brings numpy

    figures = policy_figures(found)
    if figures is None:
        return {"items": 0, "figures": {}}
    shown = ("success_rate", "reward", "tool_calls", "output_tokens", "cost_usd", "cost_per_success")
    return {
        "items": len({rollout.task.id for rollout in found.rollouts}),
        "rollouts": len(found.rollouts),
        "suite": (found.selection.get("suite") or {}).get("digest"),
        "figures": {
            name: {
                "value": level.value,
                "low": level.interval.low if level.interval else None,
                "high": level.interval.high if level.interval else None,
            }
            for name, level in figures.figures.items()
            if name in shown and level.value is not None
        },
    }

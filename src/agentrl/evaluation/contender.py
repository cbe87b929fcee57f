"""Which policy is measured, and an engine that rolls it out as training would: same tools, limits and grader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits, load_tasks
from agentrl.errors import ConfigError
from agentrl.evaluation.conditions import conditions
from agentrl.evaluation.run_evaluations import AT
from agentrl.evaluation.versions import versions
from agentrl.interrupts import is_loop_running
from agentrl.progress import Reporter
from agentrl.rollout.api_address import ApiAddress
from agentrl.rollout.api_model import ApiModel
from agentrl.rollout.engine import RolloutEngine
from agentrl.runs.files import CHECKPOINTS, MANIFEST
from agentrl.tools.preflight import check_endpoints
from agentrl.tools.serve import serving
from agentrl.types import Task

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy

logger = logging.getLogger(__name__)

BASELINE = "baseline"
Result = TypeVar("Result")


@dataclass(frozen=True)
class PolicySource:
    """A policy by where its answers come from."""

    kind: str
    """baseline, checkpoint or api."""
    name: str
    """As the user wrote it."""
    folder: Path | None = None
    """checkpoint: weights to put into the baseline's network."""
    api: ApiAddress | None = None
    """api: which model, and where."""

    @classmethod
    def find(cls, text: str = BASELINE) -> PolicySource:
        """`baseline`, a folder of weights, or `RUN@baseline`, `RUN@best`, `RUN@final`, `RUN@STEP`.

        Raises:
            ConfigError: there are no such weights; the message lists those that there are.
        """
        if text == BASELINE:
            return cls("baseline", text)
        folder = Path(text)
        run, at, which = text.rpartition(AT)
        if at and not folder.is_dir():
            if which == BASELINE:
                return cls("baseline", text)
            folder = _of_run(Path(run), which)
        if not text or not folder.is_dir():
            raise ConfigError(
                f"{text or 'found nothing'}: no such folder; allowed: baseline, a checkpoint's folder, or RUN{AT}best"
            )
        if (folder / MANIFEST).is_file() and (folder / CHECKPOINTS).is_dir():
            raise ConfigError(f"{text}: is a run; say which of its policies, such as {text}{AT}best")
        inner = folder / "policy"
        return cls("checkpoint", text, inner if inner.is_dir() else folder)

    @classmethod
    def of(cls, policy: str | PolicySource) -> PolicySource:
        """A source as it is, or what a name means, see `find`."""
        return cls.find(policy) if isinstance(policy, str) else policy

    @classmethod
    def of_api(cls, model: str, url: str, key_env: str | None = None) -> PolicySource:
        """A model of an OpenAI-compatible server; see `ApiAddress.read`."""
        return cls("api", model, api=ApiAddress.read(model, url, key_env))


@dataclass(frozen=True)
class Contender:
    """A policy that is ready to be rolled out. What takes reading all weights or tasks is done when it is asked for."""

    engine: RolloutEngine
    source: PolicySource
    splits: Splits = field(repr=False)
    told: Mapping[str, str] = field(repr=False)
    """Versions that endpoints and MCP servers told of themselves."""
    config: RunConfig = field(repr=False)
    network: Policy | None = field(default=None, repr=False)
    """The weights and their chat format; None for an API model."""
    base_url: str = ""
    """Of the config's own servers, see `served`."""

    @cached_property
    def policy(self) -> dict[str, Any]:
        """Who it is, for an evaluation file."""
        return {"kind": self.source.kind, "name": self.source.name, **self._identity}

    @property
    def _identity(self) -> dict[str, Any]:
        if isinstance(model := self.engine.inference, ApiModel):
            # one list for good: it grows where a server lets several models answer
            return {"model": model.address.model, "host": model.address.host, "served": model.served}
        return {"digest": self.network.digest()} if self.network is not None else {}

    @cached_property
    def versions(self) -> dict[str, Any]:
        """Of all that it is measured with, as in manifest.json; of an API model, what its server tells of it."""
        told = {**self.told, **{f"tool {name}": version for name, version in self.engine.tool_versions.items()}}
        tokenizer = None if self.network is None else self.network.tokenizer
        model = None
        if isinstance(api := self.engine.inference, ApiModel):
            model = f"{api.address.model} at {api.address.host} (served: {(api.served or ['not told'])[0]})"
        return versions(
            self.config, self.splits, tokenizer, told, self.engine.tools, self.engine.grader_versions, model
        )

    def conditions(self, tasks: tuple[Task, ...]) -> dict[str, Any]:
        """Those of a measurement on these tasks."""
        return conditions(self.config.model_dump(mode="json"), self.versions, tasks)


@contextmanager
def served(config: RunConfig) -> Iterator[str]:
    """The servers of `tools.serve` for as long as the block lasts; the address that `{serve}` stands for."""
    sections = training_sections(config)
    values = {"data.path": sections.data.path} if sections.data.path else {}
    with serving(sections.tools.serve, values) as urls:
        yield urls[0] if urls else ""


@asynccontextmanager
async def open_contender(
    config: RunConfig, source: PolicySource, base_url: str = "", *, splits: Splits | None = None
) -> AsyncIterator[Contender]:
    """Load the policy, try every endpoint once, and hand over an engine that samples from it; closed at the end.

    Args:
        base_url: of `served`.

    Raises:
        ConfigError: data, endpoints or model do not fit the config.
        BaselineError, CheckpointError: the weights cannot be loaded.
    """
    sections = training_sections(config)
    splits = splits or load_tasks(sections.data)
    probe = (*splits.validation, *splits.train, *splits.test)[0]
    told = await check_endpoints(
        sections.tools.endpoints,
        sections.grading,
        item=probe.item,
        messages=probe.messages,
        base_url=base_url,
        lifecycle=sections.tools.lifecycle,
    )
    policy = ApiModel(source.api, config.inference) if source.api is not None else _load(config, source)
    engine = RolloutEngine.from_config(config, policy, base_url)
    try:
        if isinstance(policy, ApiModel):
            await _check_api(config, engine, policy, probe)
        else:
            engine.check_prompts((*splits.train, *splits.validation, *splits.test))
            await engine.sync(policy)
        network = None if isinstance(policy, ApiModel) else policy
        yield Contender(engine, source, splits, told, config, network, base_url)
    finally:
        await engine.aclose()


def with_contender(
    config: RunConfig,
    source: PolicySource,
    work: Callable[[Contender], Coroutine[Any, Any, Result]],
    *,
    reporter: Reporter,
    splits: Splits | None = None,
) -> Result:
    """What `work` makes of a policy that is ready to be rolled out; the policy and its servers are gone afterwards.

    Raises:
        ConfigError, BaselineError, CheckpointError: as `open_contender`, or by `work`.
    """

    async def opened(base_url: str) -> Result:
        reporter.phase(f"loading {source.name}")
        async with open_contender(config, source, base_url, splits=splits) as contender:
            return await work(contender)

    with served(config) as base_url:
        return from_anywhere(lambda: opened(base_url))


def from_anywhere(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end, in a thread of its own where an event loop is running already: a notebook's is."""
    if not is_loop_running():
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


async def _check_api(config: RunConfig, engine: RolloutEngine, model: ApiModel, task: Task) -> None:
    """Ask the model for a word, with the tools that it will have."""
    await model.check(engine.offered(task), config.rollout.max_turn_tokens)
    if not task.item.get("tools") and (names := ", ".join(engine.undescribed_tools)):
        what = "the model behind the API knows of them what the prompt says"
        logger.warning("tools without a description: %s; %s", names, what)


def _load(config: RunConfig, source: PolicySource) -> Policy:
    from agentrl.policy.checkpoint import load_weights
    from agentrl.policy.policy import load_policy
    from agentrl.progress_bars import without_progress_bars

    with without_progress_bars():
        policy = load_policy(config)
        if source.folder is not None:
            load_weights(source.folder, policy)
    return policy


def _of_run(run: Path, which: str) -> Path:
    """The folder of weights that `best`, `final` or a step means."""
    if not (run / MANIFEST).is_file():
        raise ConfigError(f"{run}{AT}{which}: {run} holds no run")
    folder = run / CHECKPOINTS
    steps = sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-[0-9]*"))
    policies = sorted(int(path.name.removeprefix("policy-")) for path in folder.glob("policy-[0-9]*"))
    if which == "best" and (folder / "best").is_dir():
        return folder / "best"
    step = steps[-1] if which == "final" and steps else int(which) if which.isdigit() else None
    if step is not None:
        for name in (f"policy-{step:06d}", f"step-{step:06d}"):
            if (folder / name).is_dir():
                return folder / name
    kept = ", ".join(map(str, sorted({*steps, *policies}))) or "none"
    raise ConfigError(
        f"{run}{AT}{which}: the run has no such weights; allowed: baseline, best, final, or one of the steps whose "
        f"weights are kept: {kept}"
    )

"""`train`: everything that can be wrong is found before the run directory is made; then the loop begins."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig, to_yaml, training_sections
from agentrl.data.tasks import load_tasks
from agentrl.errors import CheckpointError, RankError
from agentrl.evaluation.discrimination import passed_signals
from agentrl.evaluation.versions import versions
from agentrl.grading.build import check_graders
from agentrl.interrupts import Stop, is_loop_running
from agentrl.monitoring.tracking import open_tracking
from agentrl.policy.launch import open_ranks
from agentrl.policy.policy import check_baseline, folder_digest, load_policy
from agentrl.policy.ranks import Ranks
from agentrl.policy.rng import seed_rng
from agentrl.progress import Reporter, SilentReporter
from agentrl.progress_bars import without_progress_bars
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.shared import shared_rollouts
from agentrl.runs import RunDirectory, default_run_dir, environment_manifest
from agentrl.runs.identity import run_hash
from agentrl.runs.place import check_place, check_resumable, nearest
from agentrl.tools.preflight import check_endpoints
from agentrl.training.ahead import split_threads
from agentrl.training.ledgers import open_ledgers
from agentrl.training.loop import Training, TrainingResult
from agentrl.training.room import lack_of_room
from agentrl.training.rows import check_rows
from agentrl.training.servers import shared_serving
from agentrl.training.shared_run import SharedRun


def train(
    config: RunConfig,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    allow_change: Sequence[str] = (),
    reporter: Reporter | None = None,
    profile: bool = False,
) -> TrainingResult:
    """Train a policy as `config` says; everything is kept in the run directory.

    Works in a terminal, in CI and in a notebook (where a loop is already running, it moves to a thread of its own).

    Args:
        run_dir: new or empty, `runs/NAME-TIME` by default; with `resume`, the run to go on with.
        allow_change: with `resume`, the keys that may have changed since, such as `ppo.learning_rate`, `grading` or
            `versions.dataset`; what did change is recorded in the manifest.
        profile: record where each step's time goes, in its metrics and in profile.json.

    Raises:
        ConfigError: data, endpoints or device do not fit the config; nothing has been written.
        BaselineError: the baseline cannot be trained from; nothing has been written.
        CheckpointError: the run directory is in use, incomplete, or belongs to another config.
    """
    if resume and run_dir is None:
        raise CheckpointError("resume needs to know the run: give its run directory")
    stop = Stop()

    def run() -> TrainingResult:
        ranks = open_ranks(config)
        with without_progress_bars(), ranks.ending_together():
            place = Place(run_dir or default_run_dir(config.name), resume, tuple(allow_change))
            return _train(config, place, reporter or SilentReporter(), stop, ranks, is_profiled=profile)

    if not is_loop_running():
        return run()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(run)
        try:
            return future.result()
        except KeyboardInterrupt:
            stop()
            return future.result()


@dataclass(frozen=True)
class Place:
    """Where a run is kept."""

    folder: Path
    resume: bool
    """Go on with the run that is there."""
    allow_change: tuple[str, ...] = ()
    """Keys in which it may differ from that run."""


def _train(
    config: RunConfig, place: Place, reporter: Reporter, stop: Stop, ranks: Ranks, *, is_profiled: bool
) -> TrainingResult:
    """Load, check, open, and run the loop until it ends or somebody stops it."""
    sections = training_sections(config)
    passed_signals(config)
    check_graders(sections.grading, is_served=bool(sections.tools.serve))
    ranks.on_first(lambda: _check(place, config))
    if ranks.count > 1:
        reporter.message(str(ranks))
    for warning in config.ppo.warnings():
        reporter.message(f"warning: {warning}")
    reporter.phase("loading tasks and baseline")
    seed_rng(config.seed)  # for what draws from the global generators: loaders, Python tools
    splits = load_tasks(sections.data)
    check_rows(sections.grading, splits, max_missing=config.ppo.guards.max_ungraded_fraction, tell=reporter.message)
    policy = load_policy(config)
    if config.ppo.overlap and config.inference.kind == "in_process":
        split_threads()
    if lack := ranks.on_first(lambda: lack_of_room(nearest(place.folder), policy, config.checkpoint, config.ppo.steps)):
        reporter.message(lack)
    values = {"data.path": sections.data.path} if sections.data.path else {}
    with (
        tempfile.TemporaryDirectory(prefix="agentrl-") as logs,
        shared_serving(ranks, sections.tools.serve, values, log_dir=Path(logs)) as urls,
    ):
        base_url, probe = urls[0] if urls else "", splits.train[0]

        async def work() -> TrainingResult:
            told = await ranks.on_first_async(
                check_endpoints(
                    sections.tools.endpoints,
                    sections.grading,
                    item=probe.item,
                    messages=probe.messages,
                    base_url=base_url,
                    lifecycle=sections.tools.lifecycle,
                )
            )
            own_engine = RolloutEngine.from_config(config, policy, base_url)
            own_engine.check_prompts((*splits.train, *splits.validation, *splits.test))
            engine = shared_rollouts(own_engine, ranks, is_remote=config.inference.kind == "vllm")
            await engine.sync(policy)  # an inference server shows here that it can serve the policy
            told |= {f"tool {name}": version for name, version in own_engine.tool_versions.items()}
            graders = own_engine.grader_versions
            passed_signals(config, graders)
            manifest = {
                **environment_manifest(),
                "processes": ranks.count,
                "baseline_digest": folder_digest(check_baseline(config.workflow.baseline)),
                "versions": versions(config, splits, policy.tokenizer, told, own_engine.tools, graders),
            }
            with (
                _open_run(config, place, manifest, ranks) as run,
                open_tracking(config, run.path, reporter.message, is_first=ranks.is_first) as tracking,
            ):
                run.watch_rollouts(tracking.rollouts)
                try:
                    await open_ledgers(own_engine, run.path, ranks, has_lifecycle=sections.tools.lifecycle is not None)
                    training = Training(
                        config,
                        run,
                        splits,
                        policy,
                        engine,
                        reporter,
                        ranks,
                        tracking=tracking,
                        is_profiled=is_profiled,
                    )
                    if is_profiled:
                        own_engine.watch(training.phases)
                    ask = ranks.ask_to_stop if ranks.count > 1 else None
                    result = await stop.guard(training.improve(resume=place.resume), training.interrupted, ask)
                except RankError as error:
                    again = f"go on from its last checkpoint with --resume --run-dir {run.path}"
                    raise RankError(f"{error}; {again}") from error
                finally:
                    await own_engine.aclose()
                    _keep_logs(Path(logs), run)
                ranks.gather([])  # nobody's servers stop while another still closes its sandboxes
                return result

        return asyncio.run(work())


def _check(place: Place, config: RunConfig) -> None:
    """Find out what would be refused in the end before anything is loaded."""
    if place.resume:
        check_resumable(place.folder, to_yaml(config), place.allow_change)
    else:
        check_place(place.folder, resume=False)


def _open_run(config: RunConfig, place: Place, manifest: dict[str, Any], ranks: Ranks) -> RunDirectory:
    """The run directory, new or to go on in; of several ranks the first one opens it."""
    if ranks.count == 1:
        return _open_alone(config, place, manifest)
    opened: list[RunDirectory] = []

    def open_first() -> Path:
        opened.append(_open_alone(config, place, manifest))
        return opened[0].path

    path = ranks.on_first(open_first)
    return SharedRun(path, ranks, opened[0] if opened else None)


def _open_alone(config: RunConfig, place: Place, manifest: dict[str, Any]) -> RunDirectory:
    manifest = {
        **manifest,
        "run_hash": run_hash(config.model_dump(mode="json", exclude={"tracking"}), manifest["versions"]),
    }
    if place.resume:
        return RunDirectory.open(place.folder, to_yaml(config), manifest, allow_change=place.allow_change)
    return RunDirectory.create(place.folder, config_yaml=to_yaml(config), manifest=manifest)


def _keep_logs(logs: Path, run: RunDirectory) -> None:
    """The servers started before there was a run directory; what they printed belongs in it."""
    for log in logs.iterdir():
        with suppress(OSError), (run.path / log.name).open("ab") as kept:  # full or gone: the run has said so itself
            kept.write(log.read_bytes())

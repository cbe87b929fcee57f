"""The trackers, by accelerate's names: how each is started, gone on with, and kept from sending more than metrics.

accelerate keeps the adapters to their libraries; this is what a run adds to them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.config.tracking import TrackerName

FOLDER = "tensorboard"


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told when it starts."""

    run_dir: Path
    project: str
    name: str
    """Of the run."""
    known: Mapping[str, Any]
    """What the tracker said when the run began, to go on in the same place; empty for a new run."""


@dataclass(frozen=True)
class TrackerKind:
    """One library."""

    module: str
    package: str
    """What to install."""
    repair: str
    """What to do where it fails though it is there."""
    arguments: Callable[[TrackedRun], dict[str, Any]]
    """Of accelerate's class."""
    identity: Callable[[Any], dict[str, Any]] = field(default=lambda tracker: {})  # noqa: ARG005
    """What to know of a started tracker to go on with its run."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Defaults of the library's own variables; what the user has set stays."""
    again: str = "steps that are taken again after a resume are shown twice"
    """What becomes of them."""
    drops_again: bool = False
    """It takes no step twice."""


def _tensorboard(run: TrackedRun) -> dict[str, Any]:
    return {"run_name": FOLDER, "logging_dir": str(run.run_dir)}


def _wandb(run: TrackedRun) -> dict[str, Any]:
    quiet = {
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
    }
    quiet |= {"x_disable_meta": True, "x_disable_machine_info": True}
    place = {"name": run.name, "dir": str(run.run_dir), "resume": "allow"}
    return {"run_name": run.project, **place, "settings": quiet, **run.known}


def _mlflow(run: TrackedRun) -> dict[str, Any]:
    quiet = {f"mlflow.source.git.{what}": "" for what in ("branch", "commit")}
    quiet |= {"mlflow.source.name": "agentrl", "mlflow.user": ""}
    return {"experiment_name": run.project, "run_name": run.name, "tags": quiet, **run.known}


def _trackio(run: TrackedRun) -> dict[str, Any]:
    return {
        "run_name": run.project,
        "name": run.name,
        "resume": "allow",
        "embed": False,
        "auto_log_gpu": False,
        "auto_log_cpu": False,
    }


def _plain(run: TrackedRun) -> dict[str, Any]:
    return {"run_name": run.project}


def _aim(run: TrackedRun) -> dict[str, Any]:
    return {"run_name": run.name, "logging_dir": str(run.run_dir), "experiment": run.project, **run.known}


def _dvclive(run: TrackedRun) -> dict[str, Any]:
    return {"run_name": run.name, "dir": str(run.run_dir / "dvclive"), "resume": True, "save_dvc_exp": False}


def _swanlab(run: TrackedRun) -> dict[str, Any]:
    return {"run_name": run.project, "experiment_name": run.name, "logdir": str(run.run_dir / "swanlog")}


KINDS: Mapping[TrackerName, TrackerKind] = {
    "tensorboard": TrackerKind("tensorboard", "tensorboard", "", _tensorboard, again=""),
    "wandb": TrackerKind(
        "wandb",
        "wandb",
        "log in with `wandb login`, set WANDB_API_KEY, or WANDB_MODE=offline",
        _wandb,
        identity=lambda tracker: {"id": tracker.tracker.id},
        environment={"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"},
        again="steps that are taken again after a resume keep the values that they had first",
        drops_again=True,
    ),
    "mlflow": TrackerKind(
        "mlflow",
        "mlflow-skinny",
        "is MLFLOW_TRACKING_URI the address of a server that answers?",
        _mlflow,
        identity=lambda tracker: {"run_id": tracker.tracker.info.run_id},
        environment={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        },
    ),
    "trackio": TrackerKind("trackio", "trackio", "log in with `hf auth login` where a Space is used", _trackio),
    "comet_ml": TrackerKind("comet_ml", "comet_ml", "log in with `comet login`, or set COMET_API_KEY", _plain),
    "aim": TrackerKind(
        "aim",
        "aim",
        "does the repository of Aim answer?",
        _aim,
        identity=lambda tracker: {"run_hash": tracker.tracker.hash},
    ),
    "clearml": TrackerKind("clearml", "clearml", "log in with `clearml-init`", _plain),
    "dvclive": TrackerKind("dvclive", "dvclive", "can DVC write here?", _dvclive),
    "swanlab": TrackerKind("swanlab", "swanlab", "log in with `swanlab login`, or set SWANLAB_API_KEY", _swanlab),
}


class Tracker:
    """One of them, running: the part of accelerate's interface that a run needs. Used in a process of its own.

    Args:
        options: of the user, over ours; a mapping is merged with one of ours.

    Raises:
        Exception: whatever the library raises.
    """

    def __init__(self, name: TrackerName, run: TrackedRun, options: Mapping[str, Any]) -> None:
        from accelerate import PartialState  # late: it loads torch
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState(cpu=True)  # accelerate writes no log line without; alone, as variables of ranks are not passed on
        self.kind, self._name = KINDS[name], name
        for variable, value in self.kind.environment.items():
            os.environ.setdefault(variable, value)
        self._class, self._arguments = LOGGER_TYPE_TO_CLASS[name], merged(self.kind.arguments(run), options)
        self._tracker = self._started()
        self._retaken = False

    def _started(self, **more: Any) -> Any:
        tracker = self._class(**{**self._arguments, **more})
        tracker.main_process_only = False  # it is the only process; else accelerate would look for others
        tracker.start()
        return tracker

    @property
    def identity(self) -> dict[str, Any]:
        """What to go on with it by."""
        return self.kind.identity(self._tracker)

    def configure(self, config: Mapping[str, Any]) -> None:
        """The run's settings."""
        self._tracker.store_init_configuration(dict(config))

    def log(self, step: int, values: Mapping[str, float], *, is_again: bool) -> str:
        """Figures of a step; what becomes of a step that was logged before it was taken again, when it is the first."""
        note = ""
        if is_again and not self._retaken:
            self._retaken, note = True, self.kind.again
            if self._name == "tensorboard":
                self._tracker.finish()
                self._tracker = self._started(purge_step=step)  # readers forget what was from here on
        if not (is_again and self.kind.drops_again):
            named = {plain_name(name): value for name, value in values.items()} if self._name == "mlflow" else values
            self._tracker.log(dict(named), step=step)
        return note

    def finish(self) -> None:
        """Send what is left."""
        self._tracker.finish()


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Ours with theirs over it, mappings within mappings."""
    found = dict(ours)
    for key, value in theirs.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def plain_name(name: str) -> str:
    """A metric's name in the letters that MLflow takes."""
    return re.sub(r"[^\w.:/ -]", "_", name, flags=re.ASCII)

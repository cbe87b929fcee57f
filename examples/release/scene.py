"""What runs in the rehearsal: model servers, the gateway, the controller, and the records that they share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agentrl.config import RunConfig, load_config
from agentrl.config.workflow import WorkflowConfig
from agentrl.release.drill.processes import Program
from agentrl.release.place import ReleasePlace, open_place
from agentrl.release.registry import create_bundle
from examples.release.measure import SUITES, evaluation
from examples.release.policies import write_policy
from examples.release.settings import CANDIDATES, free_port, rehearsal_config

DEFECTS: Mapping[str, str] = {"slow": ",slowness=5", "leaky": ",mixes_up=0.15"}


@dataclass
class Scene:
    """Everything that is started, and where it writes."""

    folder: Path
    config_file: Path
    config: RunConfig
    place: ReleasePlace
    servers: Mapping[str, str]
    """Address of the server of each policy, up to and including /v1."""
    url: str
    """Of the gateway."""
    stack: ExitStack
    gateway: Program
    controller: Program
    measuring: Program | None = None
    kills: dict[str, Any] = field(default_factory=dict)

    def start_gateway(self) -> Program:
        """Where the users look for it; the one before it must be gone."""
        self.gateway = _gateway(self.stack, self.folder, self.config_file)
        self.gateway.addresses()
        return self.gateway

    def start_controller(self) -> Program:
        """Another one; a workflow has one at a time."""
        self.controller = _controller(self.stack, self.folder, self.config_file)
        return self.controller

    def start_measuring(self) -> None:
        """Measure all policies on the suites, at the servers that the gateway uses; what serves users comes first."""
        servers = [f"{name}={url}" for name, url in self.servers.items()]
        command = ["python", "-m", "examples.release.measure", str(self.config_file), str(self.folder), *servers]
        self.measuring = self.stack.enter_context(Program("measuring", command, self.folder / "measuring.log"))

    async def measured(self, name: str) -> list[Path]:
        """The evaluations of a policy, one a suite, as soon as they are there.

        Raises:
            ReleaseError: the measuring ended without them.
        """
        wanted = [evaluation(self.folder, name, suite) for suite in SUITES]
        while not all(each.is_file() for each in wanted):
            if self.measuring is not None and self.measuring.exit_code:
                self.measuring.check()
            await asyncio.sleep(0.1)
        return wanted

    def bundle(self, name: str) -> str:
        """Keep a policy with all that it was made from; returns the bundle's id."""
        weights = write_policy(name, self.folder / "weights" / name)
        licences = {"policy": "apache-2.0", "baseline": "apache-2.0", "data": "apache-2.0"}
        return create_bundle(self.place, self.config, str(weights), licences=licences, is_linked=True).id


def started(stack: ExitStack, folder: Path, name: str, *verb: str) -> Program:
    """`agentrl VERB...` as a process of its own, with its output in the folder."""
    log = folder / f"{name}-{time.monotonic_ns()}.log"
    return stack.enter_context(Program(name, ["python", "-m", "agentrl", *verb], log))


def _gateway(stack: ExitStack, folder: Path, config: Path) -> Program:
    return started(stack, folder, "gateway", "gateway", str(config))


def _controller(stack: ExitStack, folder: Path, config: Path) -> Program:
    return started(stack, folder, "controller", "release", "watch", str(config), "--every", "0.5")


def model_server(stack: ExitStack, folder: Path, name: str, policies: Sequence[str]) -> Program:
    """A server of these policies, with their defects."""
    options = [word for each in policies for word in ("--policy", f"{each}={each}{DEFECTS.get(each, '')}")]
    command = ["python", "-m", "examples.release.model_server", *options]
    return stack.enter_context(Program(name, command, folder / f"{name}.log", variables={"OMP_NUM_THREADS": "1"}))


def open_scene(stack: ExitStack, folder: Path) -> Scene:
    """Start everything; the servers of the policies load side by side."""
    baseline = model_server(stack, folder, "baseline", ["baseline"])
    candidates = model_server(stack, folder, "candidates", CANDIDATES)
    (baseline_at,), (candidates_at,) = baseline.addresses(seconds=120), candidates.addresses(seconds=120)
    port = free_port()
    file = folder / "rehearsal.yaml"
    settings = rehearsal_config(folder, baseline=baseline_at, candidates=candidates_at, port=port)
    file.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    config = load_config(file)
    assert isinstance(config.workflow, WorkflowConfig)
    place = open_place(config)
    stack.callback(place.store.close)
    gateway, controller = _gateway(stack, folder, file), _controller(stack, folder, file)
    servers = {name: f"{baseline_at if name == 'baseline' else candidates_at}/v1" for name in ("baseline", *CANDIDATES)}
    gateway.addresses()
    return Scene(folder, file, config, place, servers, f"http://127.0.0.1:{port}/v1", stack, gateway, controller)

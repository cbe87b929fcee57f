"""Rollouts against a tool and a grader of which a fifth of all replies is broken: is every one accounted for?

    python -m benchmarks.soak [--rollouts 10000] [--share 0.2] [--json]

Everything is real but the weights: episodes of two turns, sockets, a server in a process of its own that fails in 22
ways (tests/faults/server.py) and keeps a ledger. It must hold: a completed rollout has the score that the server gave
it and the output of its own call; a lost one has no score; no task, socket or file descriptor is left; memory is flat.
Exit code 1 where one of these does not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from agentrl.chat import ChatFormat
from agentrl.config import GradingConfig, RolloutConfig, ToolEndpointConfig
from agentrl.grading import build_grader
from agentrl.inference.scripted import ScriptedEngine
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools import EndpointTool, Toolbox
from agentrl.types import Outcome, Rollout, Task
from tests.engine_fixtures import make_tokenizer
from tests.faults.server import output_of, score_of

ROUNDS = 6
AT_ONCE = 256
TIMEOUT_SECONDS, LATE_SECONDS = 0.4, 0.6
MAX_GROWTH_BYTES = 16 * 2**20
CALL = '<tool_call>{"name": "look", "arguments": {"key": "a"}}</tool_call>'


@contextmanager
def fault_server(share: float, seed: int) -> Iterator[str]:
    """The base URL of a server that misbehaves."""
    options = ["--share", str(share), "--seed", str(seed), "--late-seconds", str(LATE_SECONDS)]
    command = [sys.executable, "-m", "tests.faults.server", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        assert process.stdout
        found = re.search(r"listening on (\S+)", process.stdout.readline())
        assert found, "the server did not start"
        yield found.group(1)
    finally:
        process.kill()
        process.communicate()


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def problems_of(rollout: Rollout) -> list[str]:
    """What is wrong with how one rollout ended."""
    score = rollout.grade.score if rollout.grade else None
    if rollout.outcome is Outcome.INFRA_FAILED:
        return [] if score is None else ["an infra-failed rollout has a score"]
    if rollout.outcome is not Outcome.COMPLETED:
        return [f"a rollout ended as {rollout.outcome}"]
    results = [result for turn in rollout.turns for result in turn.tool_results]
    if not results:
        return ["a completed rollout made no call"]
    found = [] if score == score_of(rollout.id) else ["a completed rollout has another score than the grader's"]
    if [result.output for result in results] != [output_of(rollout.id, result.call_id) for result in results]:
        found.append("a completed rollout was shown another call's output")
    return found


async def soak(url: str, rollouts: int) -> dict[str, Any]:
    """Run them in rounds and say what came of them."""
    tokenizer = make_tokenizer()
    chat = ChatFormat(tokenizer)
    turns = [[*tokenizer.encode(text, add_special_tokens=False), chat.stop_id] for text in (CALL, "yes")]
    called: set[str] = set()

    def script(_: list[int], session: str) -> list[int]:
        if session in called:
            called.discard(session)
            return turns[1]
        called.add(session)
        return turns[0]

    calls: dict[str, Any] = {"timeout_seconds": TIMEOUT_SECONDS, "retries": 2, "breaker_seconds": 0.2}
    tool = EndpointTool(ToolEndpointConfig(name="look", server_url=f"{url}/tool/mix", **calls))
    grader = build_grader(GradingConfig(name="right", url=f"{url}/grade/mix", **calls))
    config = RolloutConfig(max_concurrent=AT_ONCE, max_turn_tokens=400, max_context_tokens=4000)
    inference = ScriptedEngine(script)
    engine = RolloutEngine(inference, chat, Toolbox([tool]), grader, config)
    task = Task("t", ({"role": "user", "content": "?"},), {})

    gc.collect()
    gc.freeze()  # what was imported is not looked through again in every round
    outcomes: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    ids: set[str] = set()
    resident = []
    for index in range(ROUNDS):
        size = rollouts * (index + 1) // ROUNDS - rollouts * index // ROUNDS
        for rollout in await engine.run([task], samples_per_task=size, seed=index):
            ids.add(rollout.id)
            outcomes[rollout.outcome] += 1
            broken.update(problems_of(rollout))
        called.clear()  # of the rollouts that were lost at their call
        resident.append(resident_bytes())
    stats = {"tool": asdict(tool.endpoint.stats), "grader": asdict(grader.endpoints[0].stats)}
    await engine.aclose()
    half = ROUNDS // 2
    return {
        "rollouts": rollouts,
        "accounted_for": len(ids),
        "outcomes": dict(outcomes),
        "problems": dict(broken),
        "open_sessions": len(inference.open_sessions),
        "tasks_left": len(asyncio.all_tasks()) - 1,
        "resident_bytes": resident[-1],
        "resident_growth_bytes": max(resident[half:]) - max(resident[:half]),
        "endpoints": stats,
    }


def measure(rollouts: int, share: float = 0.2, seed: int = 0) -> dict[str, Any]:
    """A whole soak; `problems` is empty where everything holds."""
    started = time.monotonic()
    with fault_server(share, seed) as url:
        before = open_files()
        found = asyncio.run(soak(url, rollouts))
        found["files_left"] = open_files() - before
        with urlopen(f"{url}/ledger") as reply:
            ledger = json.load(reply)
    problems = found["problems"]
    counts = {
        "rollouts not accounted for": rollouts - found["accounted_for"],
        "open sessions": found["open_sessions"],
        "tasks left": found["tasks_left"],
        "files or sockets left": found["files_left"],
        "keys under which two different requests came": len(ledger["changed"]),
        "bytes of growth": max(0, found["resident_growth_bytes"] - MAX_GROWTH_BYTES),
        "calls still in flight": sum(each["in_flight"] + each["waiting"] for each in found["endpoints"].values()),
        "scores that the server never gave": found["outcomes"].get(Outcome.COMPLETED, 0)
        - sum(key.endswith("/grade") for key in ledger["deliveries"]),
    }
    problems.update({name: count for name, count in counts.items() if count > 0})
    found["faults"] = {name: count for name, count in ledger["faults"].items() if name != "ok"}
    found["requests"] = sum(ledger["deliveries"].values())
    found["seconds"] = round(time.monotonic() - started, 1)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Rollouts against endpoints that fail in many ways.")
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.2, help="of the replies that are broken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print all figures as one line of JSON")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # a fault is no news here
    found = measure(options.rollouts, options.share, options.seed)
    if options.json:
        print(json.dumps(found))
    else:
        for key in ("rollouts", "outcomes", "requests", "faults", "resident_growth_bytes", "seconds", "problems"):
            print(f"{key:>22}  {found[key]}")
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())

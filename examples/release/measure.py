"""Measure policies offline: `python -m examples.release.measure CONFIG FOLDER NAME=URL...`, two at a time, in order.

FOLDER has the frozen suites; an evaluation NAME-SUITE.json comes beside them. As `agentrl eval --suite` would write it,
but FinQA's index is made once for all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agentrl.config import load_config
from agentrl.evaluation.contender import PolicySource
from agentrl.evaluation.evaluate_policy import EvalOptions, evaluate_policy
from agentrl.evaluation.evaluation_files import write_evaluation
from examples.release.tools import finqa_tools

SUITES = ("tasks", "attacks")
AT_ONCE = 2


def evaluation(folder: Path, name: str, suite: str) -> Path:
    """Where an evaluation goes."""
    return folder / f"{name}-{suite}.json"


def main(arguments: Sequence[str]) -> int:
    """Measure all of them."""
    file, place, *servers = arguments
    config, folder = load_config(file), Path(place)
    finqa_tools()

    def measure(server: str) -> None:
        name, _, url = server.partition("=")
        for suite in SUITES:
            options = EvalOptions(suite=folder / f"{suite}.json", samples=1)
            found = evaluate_policy(config, policy=PolicySource.of_api(name, url, None), options=options)
            write_evaluation(evaluation(folder, name, suite), found)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(measure, servers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`agentrl endpoints check`: try the tools and the grader as a run would, before one is paid for."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Config, Json, Set, training_config
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.config import RunConfig
    from agentrl.tools.checks import Finding

endpoints = typer.Typer(no_args_is_help=True, help="Try tools and grader before a run.", rich_markup_mode=None)

Burst = Annotated[int | None, typer.Option(min=1, help="Calls at once.  [default: the peak that the config plans]")]
WIDTH = 110


@endpoints.callback()
def _endpoints() -> None:
    """Try tools and grader before a run."""


@endpoints.command()
def check(
    config: Config,
    burst: Burst = None,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Try every endpoint as a run would.

    Reachability, authorisation, latency, state within a rollout, isolation between rollouts, repeated calls, leaked
    answers, the planned burst, and whether the grader agrees with itself. Makes a few hundred calls; exits with 1
    where something failed.
    """
    from agentrl.runs.files import to_json

    resolved = training_config(config, overrides)
    found = _check_all(resolved, burst)
    failed = [each for each in found if each.result == "failed"]
    if as_json:
        findings = [vars(each) | {"detail": printable(each.detail)} for each in found]
        print(to_json({"is_good": not failed, "findings": findings}, indent=2))
    else:
        print(_table(found))
    if failed:
        sys.stdout.flush()
        raise typer.Exit(RUN_FAILED)


def _check_all(config: RunConfig, burst: int | None) -> list[Finding]:
    from agentrl.config import training_sections
    from agentrl.data.tasks import load_tasks
    from agentrl.errors import ConfigError
    from agentrl.sizing import episodes_at_once, peak_requests
    from agentrl.tools.checks import Finding, check_grader, check_sandbox, check_tool
    from agentrl.tools.lifecycle import Lifecycle
    from agentrl.tools.mcp_server import MCPServer
    from agentrl.tools.python_tool import PythonTool
    from agentrl.tools.serve import serving

    sections = training_sections(config)
    splits = load_tasks(sections.data)
    at_once = episodes_at_once(config, validation=len(splits.validation), test=len(splits.test))
    sizes = {name: min(size, burst or size) for name, size in peak_requests(config, at_once).items()}
    values = {"data.path": sections.data.path} if sections.data.path else {}

    async def endpoints_of(base_url: str) -> list[Finding]:
        found: list[Finding] = []
        lifecycle = Lifecycle.from_config(sections.tools, base_url)
        if lifecycle is not None:
            found.append(await check_sandbox(lifecycle, splits.train))
            if found[0].result == "failed":
                return found
        for tool in sections.tools.endpoints:  # one after the other: a burst at one must not slow another down
            size = sizes[f"tool {tool.name}"]
            found += await check_tool(tool, splits.train, burst=size, base_url=base_url, lifecycle=lifecycle)
        if lifecycle is not None:
            await lifecycle.aclose()
        grader = sections.grading
        size = sizes[f"grader {grader.name}"]
        return [*found, *await check_grader(grader, splits.train, burst=size, base_url=base_url)]

    with serving(sections.tools.serve, values) as urls:
        base_url = urls[0] if urls else ""
        found = asyncio.run(endpoints_of(base_url))
        for server in sections.tools.mcp:
            try:
                names = ", ".join(tool.name for tool in MCPServer(server, base_url).tools())
                found.append(Finding(f"mcp {server.name}", "reachable", "ok", f"has the tools {names}"))
            except ConfigError as error:
                found.append(Finding(f"mcp {server.name}", "reachable", "failed", str(error)))
        for function in sections.tools.python:
            tool_name = PythonTool(function).name
            found.append(Finding(f"python {tool_name}", "reachable", "ok", "can be imported and described"))
    return found


def _table(found: Sequence[Finding]) -> str:
    """Aligned text: a line for each finding, its detail folded; an endpoint is named once."""
    rows = [(each.endpoint, each.check, each.result) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines: list[str] = []
    for index, each in enumerate(found):
        is_named = index > 0 and found[index - 1].endpoint == each.endpoint
        cells = ("" if is_named else each.endpoint, *rows[index][1:])
        start = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + "  "
        lines += textwrap.wrap(printable(each.detail), WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
    counts = Counter(each.result for each in found)
    return "\n".join([*lines, "", ", ".join(f"{count} {result}" for result, count in counts.items())])

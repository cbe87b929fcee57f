"""`agentrl export`: recorded rollouts to where other programs read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import Json

if TYPE_CHECKING:
    from agentrl.monitoring.otlp import Collector
    from agentrl.monitoring.recorded_context import Recording

export = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Send recorded rollouts to other programs.")


@export.callback()
def _export() -> None:
    """Send recorded rollouts to other programs."""


@export.command()
def otel(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help="A run's directory, a file of rollouts, or what `agentrl eval` wrote."),
    ],
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="The collector, such as http://127.0.0.1:4318.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.jsonl", help="Write OTLP/JSON lines there instead.")
    ] = None,
    header: Annotated[
        list[str],
        typer.Option(metavar="NAME=VALUE", help="Sent along; ${NAME} is taken from the environment. May be repeated."),
    ] = [],  # noqa: B006  (typer reads the default)
    only: Annotated[
        list[str], typer.Option(metavar="NAME", help="Files of rollouts, such as validation-final. May be repeated.")
    ] = [],  # noqa: B006
    content: Annotated[
        bool, typer.Option("--content", help="Also what was said, redacted; without it digests are sent.")
    ] = False,
    content_max_chars: Annotated[int, typer.Option(min=1, help="--content: characters of one text.")] = 8192,
    timeout_seconds: Annotated[float, typer.Option(min=0.1, help="For one request, its retries included.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Send rollouts as OpenTelemetry traces, by the GenAI conventions.

    A rollout has the same trace and span ids whenever it is sent.
    """
    from agentrl.errors import ConfigError
    from agentrl.monitoring.content import Content
    from agentrl.monitoring.exporting import send, write
    from agentrl.monitoring.otlp import ExportError, need_opentelemetry
    from agentrl.runs.files import to_json

    if (endpoint is None) == (out is None):
        raise ConfigError("say where to: either --endpoint URL or --out FILE.jsonl")
    need_opentelemetry("`agentrl export otel`")
    files = _recordings(source, only)
    shown = Content(content_max_chars) if content else None
    if out is not None:
        try:
            done = write(files, out, shown)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    else:
        collector = _collector(str(endpoint), dict(map(_header, header)), timeout_seconds)
        try:
            done = send(files, collector, shown)
        except ExportError as error:
            raise ExportError(f"{endpoint}: {error}") from None
    if as_json:
        print(to_json({"files": len(files), "rollouts": done.rollouts, "spans": done.spans}))
    else:
        print(f"{done.rollouts} rollouts of {len(files)} files, {done.spans} spans, to {out or endpoint}")


def _recordings(source: Path, only: list[str]) -> list[Recording]:
    from agentrl.evaluation.evaluation_files import read_evaluation, rollouts_beside
    from agentrl.monitoring.recorded_context import Recording, evaluation_context, recordings

    if source.suffix != ".json" or not source.is_file():
        return recordings(source, only)
    found = read_evaluation(source)
    context = evaluation_context(
        found.name, found.policy, found.conditions, pass_threshold=found.pass_threshold, tools=found.tools
    )
    return [Recording(rollouts_beside(source), context, source.stat().st_mtime)]


def _collector(endpoint: str, headers: dict[str, str], timeout_seconds: float) -> Collector:
    from agentrl.config import OpenTelemetryConfig
    from agentrl.errors import ConfigError
    from agentrl.monitoring.otlp import Collector, resource

    try:
        OpenTelemetryConfig(endpoint=endpoint)
    except ValueError:
        raise ConfigError("--endpoint: allowed: http://host:port, without a user name or a key in it") from None
    return Collector(endpoint, resource(), headers=headers, timeout_seconds=timeout_seconds)


def _header(text: str) -> tuple[str, str]:
    from agentrl.errors import ConfigError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError("--header: allowed: NAME=VALUE, for example 'Authorization=Bearer ${OTEL_TOKEN}'")
    return name, value

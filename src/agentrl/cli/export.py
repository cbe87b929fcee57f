"""`agentrl export`: recorded rollouts to where other programs read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentrl.monitoring.recorded_context import Recording
    from agentrl.monitoring.spans import Span

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
    from agentrl.monitoring.otlp import need_opentelemetry
    from agentrl.runs.files import to_json

    if (endpoint is None) == (out is None):
        raise ConfigError("say where to: either --endpoint URL or --out FILE.jsonl")
    need_opentelemetry("`agentrl export otel`")
    files = _recordings(source, only)
    batches = _spans(files, content_max_chars if content else None)
    if out is not None:
        n_rollouts, n_spans = _write(batches, out)
    else:
        n_rollouts, n_spans = _send(batches, str(endpoint), dict(map(_header, header)), timeout_seconds)
    if as_json:
        print(to_json({"files": len(files), "rollouts": n_rollouts, "spans": n_spans}))
    else:
        print(f"{n_rollouts} rollouts of {len(files)} files, {n_spans} spans, to {out or endpoint}")


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


def _spans(files: list[Recording], content_max_chars: int | None) -> Iterator[list[Span]]:
    """The spans of one rollout after the other: a run may hold more than fits into memory."""
    from agentrl.monitoring.content import Content
    from agentrl.monitoring.spans import spans_of

    content = Content(content_max_chars) if content_max_chars is not None else None
    for file in files:
        for rollout in file.rollouts():
            yield spans_of(rollout, file.context, ended_at=file.ended_at, content=content)


def _write(batches: Iterator[list[Span]], out: Path) -> tuple[int, int]:
    from agentrl.disk import replacing
    from agentrl.errors import ConfigError
    from agentrl.monitoring.otlp import resource, to_json_line

    n_rollouts = n_spans = 0
    sender = resource()
    try:
        with replacing(out) as file:
            for spans in batches:
                file.write(to_json_line(spans, sender).encode() + b"\n")
                n_rollouts, n_spans = n_rollouts + 1, n_spans + len(spans)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    return n_rollouts, n_spans


def _send(
    batches: Iterator[list[Span]], endpoint: str, headers: dict[str, str], timeout_seconds: float
) -> tuple[int, int]:
    from agentrl.config import OpenTelemetryConfig
    from agentrl.errors import ConfigError
    from agentrl.monitoring.otlp import SPANS_A_REQUEST, Collector, ExportError, resource

    try:
        OpenTelemetryConfig(endpoint=endpoint)
    except ValueError:
        raise ConfigError("--endpoint: allowed: http://host:port, without a user name or a key in it") from None
    collector = Collector(endpoint, resource(), headers=headers, timeout_seconds=timeout_seconds)
    n_rollouts = n_spans = 0
    waiting: list[Span] = []
    waiting_rollouts = 0

    def flush() -> None:
        nonlocal n_rollouts, n_spans, waiting_rollouts
        try:
            collector.send(waiting)
        except ExportError as error:
            again = "what it has keeps its ids, so all of it can be sent again"
            raise ExportError(f"{endpoint} took {n_rollouts} rollouts, then: {error}; {again}") from None
        n_rollouts, n_spans = n_rollouts + waiting_rollouts, n_spans + len(waiting)
        waiting_rollouts = 0
        waiting.clear()

    for spans in batches:
        waiting += spans
        waiting_rollouts += 1
        if len(waiting) >= SPANS_A_REQUEST:
            flush()
    flush()
    collector.close()
    return n_rollouts, n_spans


def _header(text: str) -> tuple[str, str]:
    from agentrl.errors import ConfigError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError("--header: allowed: NAME=VALUE, for example 'Authorization=Bearer ${OTEL_TOKEN}'")
    return name, value

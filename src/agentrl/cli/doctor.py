"""`agentrl doctor`: is what a run stands on sound? `template` looks at a checkpoint's chat template."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.exits import RUN_FAILED
from agentrl.cli.options import Json

if TYPE_CHECKING:
    from agentrl.chat import AppendOnlyReport, ChatFormat

doctor = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look for what would make a run learn the wrong thing."
)


@doctor.callback()
def _doctor() -> None:
    """Look for what would make a run learn the wrong thing."""


@doctor.command()
def template(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a checkpoint, or of its tokenizer.")],
    chat_template: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="Take this template, a shipped one or a .jinja, not MODEL's."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Does the chat template leave earlier turns as they were said?

    Three turns with tool calls, once token by token and once rendered in full. Exit 1 where the two differ.
    """
    import json
    from dataclasses import asdict

    from agentrl.chat import append_only_report, remedy

    chat = _chat_format(model, chat_template)
    report = append_only_report(chat)
    if as_json:
        found = {
            **asdict(report),
            "is_fit": report.is_fit,
            "remedy": remedy(report.syntax) if report.difference else "",
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"{name:<15} {text}" for name, text in _lines(chat, report)))
        if report.difference:
            print(f"\n{remedy(report.syntax)}")
    if not report.is_fit:
        raise typer.Exit(RUN_FAILED)


def _chat_format(model: Path, chat_template: str) -> ChatFormat:
    from transformers import AutoTokenizer

    from agentrl.chat import ChatFormat, load_template
    from agentrl.errors import BaselineError

    if not model.is_dir():  # a name is not looked up on a hub
        raise BaselineError(f"{model}: no such folder; give the folder of a checkpoint or of its tokenizer")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
    except Exception as error:  # the tokenizers library raises nothing more specific for a broken file
        raise BaselineError(f"{model}: its tokenizer cannot be loaded ({error})") from error
    if chat_template:
        tokenizer.chat_template = load_template(chat_template)
    return ChatFormat(tokenizer)


def _lines(chat: ChatFormat, report: AppendOnlyReport) -> list[tuple[str, str]]:
    """What was found, as label and text."""
    lines = [
        ("tool calls", f"{report.syntax}: {chat.syntax.example}; {'several' if report.is_parallel else 'one'} a turn"),
        ("thoughts", "written by the template" if report.has_thoughts else "none in the template"),
        ("a turn ends at", "  ".join(report.stops)),
    ]
    if report.unread:
        lines.append(("not read back", report.unread))
    if report.difference:
        lines += [
            ("rewritten", f"{report.difference.where}, at token {report.difference.token}"),
            ("  as said", repr(report.difference.said)),
            ("  as rendered", repr(report.difference.rendered)),
        ]
    if report.respelled:
        lines.append(("other tokens", f"of the same text, {report.respelled}: harmless, nothing is encoded twice"))
    if report.follow_up:
        lines += [
            ("a later user", f"would change turns from token {report.follow_up.token} on: none speaks in an episode"),
            ("  as said", repr(report.follow_up.said)),
            ("  as rendered", repr(report.follow_up.rendered)),
        ]
    lines.append(("verdict", "fit for training" if report.is_fit else "not fit for training"))
    return lines

"""The audit log's head kept elsewhere: what shows that lines were cut from its end.

An anchor is one line, `entry hash time`, of the log's last line at that time. It is worth something only where the one
who can change the log cannot change it: another machine, a ticket, a signed git tag. `verify` looks for the anchored
entry in a log whose chain is whole; an entry that is not there was cut.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.audit_log import ChainError, Entry, iso
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import transitions


@dataclass(frozen=True)
class Anchor:
    """A line that the log had at a time."""

    entry: int
    hash: str
    at: str

    def __str__(self) -> str:
        return f"{self.entry} {self.hash} {self.at}"


def anchor_of(entries: list[Entry], *, now: float) -> Anchor:
    """Of the log as it is now.

    Raises:
        ReleaseError: it has no line yet.
    """
    if not entries:
        raise ReleaseError("the audit log has no entry yet: there is nothing to anchor")
    return Anchor(entries[-1].number, entries[-1].hash, iso(now))


def applied_anchor(place: ReleasePlace) -> Anchor | None:
    """The last entry that the database has applied: it knows how long the log was at least."""
    rows = transitions.c
    with place.store.read() as connection:
        last = connection.execute(
            select(rows.entry, rows.hash, rows.at)
            .where(rows.workflow == place.workflow)
            .order_by(rows.entry.desc())
            .limit(1)
        ).one_or_none()
    return None if last is None else Anchor(last.entry, last.hash, iso(last.at))


def parse_anchor(text: str, source: str) -> Anchor:
    """From its line.

    Raises:
        ConfigError: it is no anchor.
    """
    words = text.split()
    if len(words) >= 2 and words[0].isdigit() and len(words[1]) == 64 and set(words[1]) <= set("0123456789abcdef"):
        return Anchor(int(words[0]), words[1], words[2] if len(words) > 2 else "")
    raise ConfigError(f"{source}: found {text[:60]!r}; allowed: `entry hash time`, as --anchor writes it")


def read_anchors(path: Path) -> list[Anchor]:
    """All of a file, one a line.

    Raises:
        ConfigError: it cannot be read, or a line is no anchor.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    return [parse_anchor(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def keep_anchor(path: Path, anchor: Anchor) -> None:
    """Add it to a file.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{anchor}\n")
    except OSError as error:
        raise ConfigError(f"--anchor {path}: cannot be written ({error.strerror or error})") from error


def tag_anchor(name: str, anchor: Anchor) -> None:
    """Make an annotated git tag of it at HEAD of the current directory's repository; push it to where it is safe.

    Raises:
        ConfigError: git could not.
    """
    _git("tag", "-a", name, "-m", str(anchor))


def read_tag(name: str) -> Anchor:
    """From an annotated git tag.

    Raises:
        ConfigError: there is none, or it holds no anchor.
    """
    return parse_anchor(_git("tag", "-l", "--format=%(contents:subject)", name).strip(), f"git tag {name}")


def check_anchor(path: Path, entries: list[Entry], anchor: Anchor) -> None:
    """See that the log has the anchored line.

    Raises:
        ChainError: it has not: lines were cut from its end, or all of it was written anew.
    """
    if len(entries) < anchor.entry:
        found = f"lines were cut from the end: an anchor of {anchor.at} names entry {anchor.entry}"
        raise ChainError(path, len(entries) + 1, found)
    if entries[anchor.entry - 1].hash != anchor.hash:
        raise ChainError(path, anchor.entry, f"written anew: an anchor of {anchor.at} names another hash")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"git {arguments[0]}: {error}") from error
    if done.returncode != 0:
        raise ConfigError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout

"""Text that models, servers and untrusted code wrote, for a terminal, a log or a file that people read."""

from __future__ import annotations


def printable(text: str) -> str:
    """On one line, without what a terminal would obey: escape sequences, line breaks, changes of direction."""
    return "".join(char if char.isprintable() else " " for char in text)


def printable_lines(text: str) -> str:
    """The same, with its line breaks, and tabs as blanks."""
    return "\n".join(printable(line) for line in text.expandtabs(4).split("\n"))

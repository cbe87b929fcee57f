"""Text that models, servers and untrusted code wrote, for a terminal, a log, a page or a file that people read."""

from __future__ import annotations

UNSEEN = (
    *range(0x80, 0xA0), 0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x200B, 0x200E, 0x200F, 0x2028,
    0x2029, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xD800, 0xE000), 0xFEFF, 0xFFA0,
    *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080), *range(0xE0100, 0xE01F0),
)  # fmt: skip
"""Characters without a picture, in which words can be hidden from people and not from models: controls, changes of
direction, halves of characters. Joiners inside of emoji and of Persian words are not among them."""
SYMBOLS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **{code: f"[U+{code:04X}]" for code in UNSEEN},
}


def printable(text: str) -> str:
    """On one line, without what a terminal would obey: escape sequences, line breaks, changes of direction."""
    return "".join(char if char.isprintable() else " " for char in text)


def printable_lines(text: str) -> str:
    """The same, with its line breaks, and tabs as blanks."""
    return "\n".join(printable(line) for line in text.expandtabs(4).split("\n"))


def visible(text: str) -> str:
    """For a page, with all its characters: what would not be seen, or would be obeyed, as a symbol or by its number."""
    return text.translate(SYMBOLS)

"""What an import gives: cases as they are written in YAML, and what stayed behind with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass
class ImportedAttacks:
    """Attacks of another tool."""

    source: str
    """Named in the file's first line."""
    cases: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(what, why)"""

    @property
    def reasons(self) -> Mapping[str, int]:
        """Why things were left out, the most frequent first."""
        return dict(Counter(why for _, why in self.left_out).most_common())

    def to_yaml(self) -> str:
        """The file; its texts are taken as they are, braces included."""
        head = f"# From {self.source}. {len(self.cases)} cases; {len(self.left_out)} things were left out.\n"
        content = {"attack": "imported", "literal": True, "cases": self.cases}
        return head + yaml.dump(content, Dumper=_Whole, sort_keys=False, allow_unicode=True, width=120)


class _Whole(yaml.SafeDumper):
    """Writes what stands twice twice: a file that people read has no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

"""Several files that belong together: all of them are the new ones, or none is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from agentrl.disk import replacing


def write_together(folder: Path, texts: Mapping[str, str]) -> Path:
    """Write the files by name; what cannot be written leaves every old one as it was.

    Raises:
        OSError: the folder cannot be made or written in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in texts:
        if (folder / name).is_dir():
            raise IsADirectoryError(21, "Is a directory", str(folder / name))
    with ExitStack() as stack:
        for name, text in texts.items():
            stack.enter_context(replacing(folder / name)).write(text.encode("utf-8", errors="replace"))
    return folder

"""What a run was made with: versions, commit, machine and command, without secrets."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

PACKAGES = ("agentrl", "torch", "transformers", "trl", "peft", "accelerate", "pydantic", "httpx", "numpy")

_SECRET_KEY = re.compile(r"headers[.\[]|(?:token|secret|password|passwd|authorization|api[_-]?key)$", re.I)
_BEARER = re.compile(r"(bearer\s+)(?!\$\{)[^\s'\"]+", re.I)


def environment_manifest() -> dict[str, Any]:
    """The facts as they are now; what cannot be found out is None, and nothing here fails a run."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _without_secrets(list(getattr(sys, "orig_argv", sys.argv))),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": commit or None,
        "git_has_changes": None if status is None else bool(status),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Output of git in the working directory: the commit of the project that runs, configs included."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip()


def _without_secrets(command: list[str]) -> list[str]:
    """Values after secret-like names (`--token X`, `headers.Authorization=X`) become `***`; ${ENV} names stay."""
    shown: list[str] = []
    hide_next = False
    for argument in command:
        key, equals, value = argument.partition("=")
        if hide_next:
            shown.append("***")
        elif equals and _SECRET_KEY.search(key) and not value.startswith("${"):
            shown.append(f"{key}=***")
        else:
            shown.append(_BEARER.sub(r"\1***", argument))
        hide_next = not equals and argument.startswith("-") and bool(_SECRET_KEY.search(argument))
    return shown

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import agentrl


@pytest.mark.parametrize("name", agentrl.__all__)
def test_a_public_name_is_where_the_package_says(name: str) -> None:
    home = importlib.import_module(agentrl._HOME_OF[name])
    assert getattr(agentrl, name) is getattr(home, name)


def test_the_public_face_is_small_sorted_and_complete() -> None:
    assert agentrl.__all__ == sorted(agentrl.__all__)
    assert set(agentrl.__all__) == set(agentrl._HOME_OF) <= set(dir(agentrl))
    assert len(agentrl.__all__) <= 35


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'"):
        agentrl.Trainer  # noqa: B018


def test_importing_does_no_work() -> None:
    code = (
        "import sys, logging; handlers = list(logging.root.handlers)\n"
        "import agentrl, agentrl.config, agentrl.types, agentrl.errors, agentrl.progress, agentrl.cli.main\n"
        "assert logging.root.handlers == handlers\n"
        "print(*sorted({'torch', 'transformers', 'trl', 'httpx', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert done.stderr == ""


def test_the_package_is_typed() -> None:
    assert Path(agentrl.__file__).with_name("py.typed").is_file()

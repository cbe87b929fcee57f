"""Imports go down only, rooms on one floor do not see each other, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "agentrl"
FLOORS = {
    8: ["cli"],
    7: ["training", "gateway", "ui"],
    6: ["release", "reward_model"],
    5: ["evaluation", "monitoring"],
    4: ["rollout", "ppo", "stages"],
    3: ["inference", "importing", "routes"],
    2: ["data", "runs", "tools", "grading", "policy", "sizing", "labels"],
    1: ["config", "endpoint", "chat", "json_files", "progress"],
    0: ["addresses", "disk", "types", "errors", "interrupts", "phases", "printable", "process_group",
        "progress_bars", "reference_key", "strict_json"],
}  # fmt: skip
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
DOORS = {"__init__", "__main__"}  # of the package itself: they name rooms on every floor
ONLY_IN = {
    "torch": (
        "policy/",
        "ppo/",
        "stages/",
        "training/",
        "inference/in_process.py",
        "inference/slots.py",
        "inference/sampling.py",
        "reward_model/",
        "grading/reward_folder.py",
        "grading/reward_model.py",
    ),
    "trl": ("stages/", "reward_model/"),
    "vllm": (),
    "mcp": ("tools/mcp_",),
    "accelerate": ("policy/", "ppo/", "monitoring/trackers.py"),
    "opentelemetry": ("monitoring/otlp.py",),
    "duckdb": ("ui/index/",),
    "sqlalchemy": ("release/", "gateway/"),
    "weasyprint": ("release/brief/",),
}


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str
    is_for_types_only: bool

    @property
    def room(self) -> str:
        return self.file.split("/")[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """All imports of a file, those inside functions included."""
    tree = ast.parse(source)
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write imports in full"
            # `from agentrl import chat` and `from agentrl.runs import files` may name modules
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            yield Import(file, node.lineno, module, id(node) in typing_only)


def all_imports() -> list[Import]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [found for path in files for found in imports_of(path.read_text(), path.relative_to(PACKAGE).as_posix())]


def upward(found: Import) -> bool:
    """Whether an import goes up, or across to another room of its floor."""
    parts = found.module.split(".")
    if parts[0] != "agentrl" or found.room in DOORS:
        return False
    room = parts[1] if parts[1] in FLOOR else None
    if room is None:  # a name of the public face: agentrl.__version__ is on no floor, the rest are above
        return parts[1] != "__version__"
    return room != found.room and FLOOR[room] >= FLOOR[found.room]


def misplaced(found: Import) -> bool:
    library = found.module.split(".")[0]
    return library in ONLY_IN and not found.is_for_types_only and not found.file.startswith(ONLY_IN[library])


def test_every_module_is_on_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert sorted(rooms - FLOOR.keys() - DOORS) == []


def test_imports_go_down_only() -> None:
    assert [str(found) for found in all_imports() if upward(found)] == []


def test_torch_and_trl_stay_in_their_rooms() -> None:
    assert [str(found) for found in all_imports() if misplaced(found)] == []


def test_every_room_has_a_sign_on_its_door() -> None:
    doors = [folder / "__init__.py" for folder in PACKAGE.iterdir() if folder.is_dir() and any(folder.glob("*.py"))]
    unsigned = [str(door) for door in doors if not door.is_file() or not ast.get_docstring(ast.parse(door.read_text()))]
    assert unsigned == []


@pytest.mark.parametrize(
    ("source", "file", "is_wrong"),
    [
        ("from agentrl.types import Task", "rollout/engine.py", False),
        ("from agentrl.rollout.engine import RolloutEngine", "rollout/other.py", False),
        ("from agentrl.ppo.trainer import PPOTrainer", "rollout/engine.py", True),
        ("def f():\n    from agentrl.training import train", "ppo/trainer.py", True),
        ("from agentrl import RolloutEngine", "ppo/trainer.py", True),
        ("import agentrl.cli.main", "training/loop.py", True),
        ("from agentrl.config import RunConfig", "errors.py", True),
        ("from agentrl import __version__", "runs/manifest.py", False),
    ],
)
def test_the_floor_plan_sees_a_wrong_import(source: str, file: str, is_wrong: bool) -> None:
    assert [upward(found) for found in imports_of(source, file)] == [is_wrong]


@pytest.mark.parametrize(
    ("source", "file", "is_wrong"),
    [
        ("import torch.nn.functional", "ppo/loss.py", False),
        ("import torch", "inference/scripted.py", True),
        ("def f():\n    import torch", "cli/train.py", True),
        ("if TYPE_CHECKING:\n    import torch", "config/run.py", False),
        ("from trl import SFTTrainer", "ppo/trainer.py", True),
    ],
)
def test_the_floor_plan_sees_a_misplaced_library(source: str, file: str, is_wrong: bool) -> None:
    assert [misplaced(found) for found in imports_of(source, file)] == [is_wrong]

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import agentrl
from agentrl.cli.main import app
from agentrl.errors import AgentRLError, BaselineError, CheckpointError, ConfigError, ToolError, TrainingStopped

SHORT = "workflow: {target: t, baseline: b}\n"
FULL = SHORT + (
    "data: {train: a.jsonl, validation: b.jsonl}\n"
    "tools: {endpoints: [{name: search, server_url: 'http://x/search'}]}\n"
    "grading: {name: g, url: 'http://x/grade'}\n"
)


@dataclass
class FakeResult:
    run_dir: Path
    summary: dict[str, Any]
    stopped_by: str | None = None


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for agentrl.training, without torch: `.outcome` is what train() returns or raises."""
    module = ModuleType("agentrl.training")
    module.__path__ = [str(Path(agentrl.__file__).with_name("training"))]  # its other files are the real ones
    module.calls = []  # type: ignore[attr-defined]
    summary = {"steps": 3, "wall_seconds": 61.0, "peak_rss_bytes": 2_000_000_000, "reward": float("nan")}
    module.outcome = FakeResult(Path("runs/x"), summary)  # type: ignore[attr-defined]

    def train(config: Any, **options: Any) -> Any:
        module.calls.append((config, options))
        if isinstance(module.outcome, BaseException):
            raise module.outcome
        return module.outcome

    module.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agentrl.training", module)
    return module


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def config(tmp_path: Path, text: str = FULL) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["check", "--help"], ["train", "--help"], ["check", "run.yaml"], ["rollouts", "--help"]),
        *(["plan", "--help"], ["endpoints", "check", "--help"]),
    ],
)
def test_help_and_check_load_no_torch(tmp_path: Path, arguments: list[str]) -> None:
    config(tmp_path, SHORT)
    code = (
        "import sys; sys.argv = ['agentrl', *sys.argv[1:]]\n"
        "from agentrl.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as leave: code = leave.code\n"
        "print(*sorted({'torch', 'transformers', 'trl', 'numpy'} & sys.modules.keys()), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "workflow" in done.stdout or "Usage" in done.stdout
    assert done.stderr.splitlines()[-1] == ""


def test_version() -> None:
    assert run("--version").stdout == "agentrl 0.1.0\n"


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "agentrl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "agentrl 0.1.0\n"


@pytest.mark.parametrize("arguments", [[], ["chek"], ["check"], ["train", "x.yaml", "--nope"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_check_prints_the_resolved_config_and_what_training_needs(tmp_path: Path) -> None:
    result = run("check", config(tmp_path, SHORT), "--set", "ppo.steps=7")
    assert result.exit_code == 0
    resolved = yaml.safe_load(result.stdout)
    assert (resolved["ppo"]["steps"], resolved["data"]) == (7, None)
    assert "`agentrl train` still needs: data, tools, grading" in result.stderr


def test_check_prints_json(tmp_path: Path) -> None:
    assert json.loads(run("check", config(tmp_path), "--json").stdout)["grading"]["grader"]["name"] == "g"


def test_check_knows_sft_configs(tmp_path: Path) -> None:
    result = run("check", config(tmp_path, "sft: {model: a, output: b, train: c}\n"))
    assert yaml.safe_load(result.stdout)["sft"]["epochs"] == 1.0


@pytest.mark.parametrize("verb", ["check", "train"])
def test_a_bad_config_exits_2_with_one_message_and_nothing_on_stdout(tmp_path: Path, verb: str) -> None:
    path = config(tmp_path, FULL + "ppo: {stepz: 1}\n")
    result = run(verb, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {path}:5: ppo.stepz: unknown key; did you mean 'steps'?\n"


def test_train_says_which_sections_are_missing(tmp_path: Path, training: ModuleType) -> None:
    result = run("train", config(tmp_path, SHORT))
    assert result.exit_code == 2
    assert "run.yaml: to train, the config still needs data, tools and grading; the shortest form:" in result.stderr
    assert training.calls == []


def test_resume_needs_a_run_directory(tmp_path: Path, training: ModuleType) -> None:
    result = run("train", config(tmp_path), "--resume")
    assert result.exit_code == 2
    assert "add --run-dir DIR" in result.stderr


def test_train_hands_everything_over_and_prints_where_the_run_is(tmp_path: Path, training: ModuleType) -> None:
    result = run("train", config(tmp_path), "--run-dir", tmp_path / "r", "--resume", "--set", "seed=3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "3 steps, 1 min 01 s, 2.0 GB at most; run directory: runs/x\n"
    [(resolved, options)] = training.calls
    assert resolved.seed == 3
    assert (options["run_dir"], options["resume"]) == (tmp_path / "r", True)


def test_train_prints_json_without_nan(tmp_path: Path, training: ModuleType) -> None:
    printed = json.loads(run("train", config(tmp_path), "--json").stdout)
    assert printed == {
        "run_dir": "runs/x",
        "stopped_by": None,
        "steps": 3,
        "wall_seconds": 61.0,
        "peak_rss_bytes": 2_000_000_000,
        "reward": None,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c"), 2),
        (BaselineError("b"), 2),
        (CheckpointError("k"), 2),
        (TrainingStopped("max_grad_norm", "s"), 1),
        (ToolError("t"), 1),
        (AgentRLError("a"), 1),
    ],
)
def test_an_error_becomes_one_message_and_its_exit_code(
    tmp_path: Path, training: ModuleType, error: AgentRLError, code: int
) -> None:
    training.outcome = error  # type: ignore[attr-defined]
    result = run("train", config(tmp_path))
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"error: {error}\n")


def test_a_bug_keeps_its_traceback(tmp_path: Path, training: ModuleType) -> None:
    training.outcome = ZeroDivisionError()  # type: ignore[attr-defined]
    assert isinstance(run("train", config(tmp_path)).exception, ZeroDivisionError)


def test_an_interrupted_run_exits_130_and_says_how_to_go_on(tmp_path: Path, training: ModuleType) -> None:
    training.outcome = FakeResult(Path("runs/x"), {}, "interrupted")  # type: ignore[attr-defined]
    path = config(tmp_path)
    result = run("train", path, "--set", "seed=3")
    assert result.exit_code == 130
    assert f"agentrl train {path} --run-dir runs/x --resume --set seed=3" in result.stderr


def test_ctrl_c_elsewhere_exits_130(tmp_path: Path, training: ModuleType) -> None:
    training.outcome = KeyboardInterrupt()  # type: ignore[attr-defined]
    result = run("train", config(tmp_path))
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_a_stop_rule_fails_the_run_and_still_prints_what_there_is(tmp_path: Path, training: ModuleType) -> None:
    training.outcome = FakeResult(Path("runs/x"), {"steps": 2}, "max_grad_norm")  # type: ignore[attr-defined]
    result = run("train", config(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "2 steps; run directory: runs/x\n")
    assert "stopped by the rule max_grad_norm" in result.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m agentrl check {config(tmp_path)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

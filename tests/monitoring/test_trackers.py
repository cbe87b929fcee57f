"""What trackers are told: with accelerate's adapters, real TensorBoard and libraries that stand in for the others."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agentrl.config import load_config
from agentrl.config.tracking import TrackerName
from agentrl.errors import ConfigError
from agentrl.monitoring import tracking as tracking_module
from agentrl.monitoring.hosted_names import HOSTED, with_hosted_names
from agentrl.monitoring.shared_config import shared_config
from agentrl.monitoring.tracker_process import TrackerReceiver, resolved
from agentrl.monitoring.trackers import KINDS, merged, plain_name
from agentrl.monitoring.tracking import Tracking, open_tracking

SECRETS = """
name: toy
workflow: {target: t, baseline: b}
tools:
  serve:
    - {command: ["{python}", -m, server, --key, canary-1], env: {A: canary-2, B: "${random}"}}
  endpoints:
    - name: search
      server_url: "{serve}/search"
      headers: {Authorization: "Bearer ${TOKEN}", X-Team: canary-3}
  mcp:
    - {name: notes, command: [run, --token=canary-4], env: {TOKEN: "${T}", C: canary-5}}
grading: {type: endpoint, name: judge, url: "https://host/grade?code=canary-6", headers: {Cookie: "${COOKIE}"}}
tracking: {trackers: [wandb], project: canary-7}
"""


@pytest.fixture(autouse=True)
def _accelerate_is_as_before() -> Iterator[None]:
    yield
    from accelerate.state import PartialState

    PartialState._reset_state()


class Library(types.ModuleType):
    """Stands in for wandb, mlflow and trackio: notes every call."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.config = types.SimpleNamespace(update=lambda values, **_: self.calls.append(("config", values)))
        self.id = "run-1"
        self.info = types.SimpleNamespace(run_id="run-1")
        constants = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
        self.utils = types.SimpleNamespace(validation=constants)

    def init(self, **arguments: Any) -> Library:
        self.calls.append(("init", arguments))
        return self

    start_run = init

    def search_experiments(self, **_: Any) -> list[Any]:
        return []

    def create_experiment(self, **arguments: Any) -> str:
        self.calls.append(("experiment", arguments))
        return "7"

    def log_params(self, values: dict[str, Any]) -> None:
        self.calls.append(("config", values))

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", {"step": step, **values}))

    log_metrics = log

    def finish(self) -> None:
        self.calls.append(("finish", {}))

    end_run = finish

    def named(self, name: str) -> list[dict[str, Any]]:
        return [arguments for each, arguments in self.calls if each == name]


def receiver(name: TrackerName, run: Path, known: dict[str, Any] | None = None, **options: Any) -> TrackerReceiver:
    found = TrackerReceiver()
    found.answer = found.start(  # type: ignore[attr-defined]
        {
            "name": name,
            "run_dir": str(run),
            "run_name": "run-a",
            "project": "finqa",
            "options": options,
            "config": {"seed": 17, "ppo.kl.coef": 0.01, "data": "null"},
            "known": known or {},
            "is_resumed": known is not None,
        }
    )
    return found


def log(to: TrackerReceiver, step: int, is_again: bool = False, **values: float) -> str:
    return str(to.receive({"step": step, "values": values, "is_again": is_again})["note"])


def events(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, round(e.value, 6)) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_has_what_it_was_told(tmp_path: Path) -> None:
    board = receiver("tensorboard", tmp_path)
    for step in (1, 2):
        assert log(board, step, reward_train=step / 4, kl=0.125) == ""
    log(board, 2, reward_validation=0.75)
    board.finish()
    assert events(tmp_path) == {
        "reward_train": [(1, 0.25), (2, 0.5)],
        "kl": [(1, 0.125), (2, 0.125)],
        "reward_validation": [(2, 0.75)],
    }


def test_tensorboard_forgets_steps_that_are_taken_again(tmp_path: Path) -> None:
    first = receiver("tensorboard", tmp_path)
    for step in (1, 2, 3):
        log(first, step, reward_train=step / 4)
    first.finish()
    again = receiver("tensorboard", tmp_path, known={})
    for step in (2, 3, 4):
        log(again, step, is_again=step <= 3, reward_train=step / 8)
    again.finish()
    assert events(tmp_path)["reward_train"] == [(1, 0.25), (2, 0.25), (3, 0.375), (4, 0.5)]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Library:
    found = Library(request.param)
    monkeypatch.setitem(sys.modules, request.param, found)
    for kind in KINDS.values():
        for variable in kind.environment:
            monkeypatch.setenv(variable, "as it was")
    return found


@pytest.mark.parametrize("library", ["wandb", "mlflow", "trackio"], indirect=True)
def test_a_tracker_is_started_configured_told_and_ended(library: Library, tmp_path: Path) -> None:
    tracker = receiver(library.__name__, tmp_path)  # type: ignore[arg-type]
    assert log(tracker, 1, reward_train=0.5) == ""
    tracker.finish()
    assert [name for name, _ in library.calls if name != "experiment"] == ["init", "config", "log", "finish"]
    assert library.named("config")[0]["seed"] == 17
    assert library.named("log") == [{"step": 1, "reward_train": 0.5}]


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_wandb_goes_on_with_its_run_and_takes_no_step_twice(library: Library, tmp_path: Path) -> None:
    first = receiver("wandb", tmp_path)
    identity = first.answer["identity"]  # type: ignore[attr-defined]
    assert identity == {"id": "run-1"}
    again = receiver("wandb", tmp_path, known=identity)
    assert "values that they had first" in log(again, 2, is_again=True, reward_train=0.5)
    assert log(again, 3, is_again=True, reward_train=0.5) == ""  # said once
    log(again, 4, reward_train=0.75)
    old, new = library.named("init")
    assert "id" not in old
    assert (new["id"], new["resume"], new["dir"]) == ("run-1", "allow", str(tmp_path))
    assert [call["step"] for call in library.named("log")] == [4]
    assert len(library.named("config")) == 1  # of the first process


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_a_tracker_that_joins_late_has_seen_no_step(library: Library, tmp_path: Path) -> None:
    tracker = receiver("wandb", tmp_path)
    assert log(tracker, 2, is_again=True, reward_train=0.5) == ""
    assert [call["step"] for call in library.named("log")] == [2]


@pytest.mark.parametrize("library", ["wandb"], indirect=True)
def test_wandb_is_told_nothing_of_the_machine_unless_it_is_asked_for(library: Library, tmp_path: Path) -> None:
    receiver("wandb", tmp_path, entity="team", settings={"console": "wrap"})
    (arguments,) = library.named("init")
    quiet = ("disable_git", "disable_code", "x_disable_stats", "x_disable_meta", "x_disable_machine_info")
    assert all(arguments["settings"][name] is True for name in quiet)
    assert arguments["settings"]["x_save_requirements"] is False
    assert (arguments["settings"]["console"], arguments["entity"]) == ("wrap", "team")


@pytest.mark.parametrize("library", ["mlflow"], indirect=True)
def test_mlflow_goes_on_with_its_run_and_takes_names_that_it_can(library: Library, tmp_path: Path) -> None:
    first = receiver("mlflow", tmp_path)
    again = receiver("mlflow", tmp_path, known=first.answer["identity"])  # type: ignore[attr-defined]
    assert "twice" in log(again, 2, is_again=True, **{"score(judge)": 0.5})
    assert [call["run_id"] for call in library.named("init")] == [None, "run-1"]
    assert library.named("log") == [{"step": 2, "score_judge_": 0.5}]
    assert library.named("init")[0]["tags"]["mlflow.user"] == ""


def test_every_tracker_of_the_config_is_one_of_accelerate_and_ours() -> None:
    from typing import get_args

    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert set(get_args(TrackerName)) == set(KINDS) <= set(LOGGER_TYPE_TO_CLASS)


def test_options_are_taken_from_the_environment_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TEAM", "red")
    assert resolved({"entity": "${MY_TEAM}", "tags": ["a", "${MY_TEAM}"], "n": 1}, "wandb") == {
        "entity": "red",
        "tags": ["a", "red"],
        "n": 1,
    }
    with pytest.raises(ConfigError, match="NO_SUCH"):
        resolved({"entity": "${NO_SUCH}"}, "wandb")
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert plain_name("tool_calls_search/2 é") == "tool_calls_search/2 _"


def test_t8_a_tracker_is_sent_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(SECRETS)
    sent = shared_config(load_config(path).model_dump(mode="json"))
    assert "canary" not in repr(sent)
    assert sent["tools.endpoints.0.headers.Authorization"] == "${TOKEN}"
    assert sent["tools.serve.0.env.B"] == "${random}"
    assert sent["grading.grader.url"] == "https://host/grade"
    assert (sent["seed"], sent["ppo.gamma"], sent["policy.lora"]) == (17, 1.0, "null")


def test_long_texts_of_a_config_are_sent_as_digests() -> None:
    sent = shared_config({"a": {"source": "x" * 500, "url": "http://me:canary@host/p?x=1#y"}})
    assert str(sent["a.source"]).startswith("sha256:")
    assert sent["a.url"] == "http://host/p"


@pytest.mark.parametrize(
    ("tracking", "message"),
    [
        ("{trackers: [wandb, wandb]}", "trackers[1]: found 'wandb' a second time"),
        ("{trackers: [wandbb]}", "did you mean 'wandb'?"),
        ("{trackers: [wandb], options: {mlflow: {}}}", "options.mlflow: no such tracker under tracking.trackers"),
        (
            "{trackers: [wandb], options: {wandb: {settings: {api_key: canary}}}}",
            "options.wandb.settings.api_key: a secret is written out (not shown)",
        ),
        ("{opentelemetry: {endpoint: 'http://me:canary@h'}}", "endpoint: found a secret in the address (not shown)"),
        ("{opentelemetry: {endpoint: 'https://h?api-key=canary'}}", "endpoint: found a secret in the address"),
        ("{opentelemetry: {endpoint: 'h:4318'}}", "an address that starts with http:// or https://"),
        (
            "{opentelemetry: {endpoint: 'http://h', headers: {Authorization: Bearer canary}}}",
            "headers.Authorization: a secret is written out (not shown)",
        ),
        (
            "{opentelemetry: {endpoint: 'http://h', timeout_seconds: 20.0}}",
            "timeout_seconds: found 20; allowed: less than half of tracking.log_seconds (30)",
        ),
    ],
)
def test_what_is_wrong_with_a_section_is_said(tracking: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(f"workflow: {{target: t, baseline: b}}\ntracking: {tracking}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


def test_hosted_names_stand_beside_ours() -> None:
    sent = with_hosted_names({"score_train": 0.5, "kl": 1.0})
    assert sent == {"score_train": 0.5, "train_mean_reward": 0.5, "train_reward_mean": 0.5, "kl": 1.0}
    ours = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert [name for name in HOSTED if f"`{name}`" not in ours and name != "infra_failed_grader"] == []


# Opening and closing


def toy(tmp_path: Path, tracking: str) -> tuple[Any, Path]:
    path, run = tmp_path / "toy.yaml", tmp_path / "run"
    path.write_text(f"workflow: {{target: t, baseline: b}}\ntracking: {tracking}\n")
    run.mkdir()
    return load_config(path), run


class Mailbox:
    """A courier that keeps what it is given."""

    def __init__(self, name: str, _command: Any, start: Any, *_: Any, **options: Any) -> None:
        self.name, self.start, self.options = name, start, options
        self.sent: list[Any] = []

    def send(self, message: Any, _units: int = 1) -> None:
        self.sent.append(message)

    def ask_to_finish(self) -> None:
        pass

    def wait(self, _until: float) -> bool:
        return True

    def close(self, _until: float) -> None:
        self.sent.append("closed")


def test_numbers_alone_are_sent_and_steps_again_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_module, "Courier", Mailbox)
    config, run = toy(tmp_path, "{trackers: [tensorboard], opentelemetry: {endpoint: 'http://127.0.0.1:4318'}}")
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    with open_tracking(config, run, print) as tracking:
        tracking.metrics(2, {"step": 2, "kl": 0.5, "nan": float("nan"), "inf": float("inf"), "text": "x", "n": 3})
        tracking.metrics(3, {"ok": True})
        tracking.rollouts("train-000003", 16)
    (tracker,) = tracking.trackers
    assert tracker.sent[:2] == [  # type: ignore[attr-defined]
        {"step": 2, "values": {"kl": 0.5, "n": 3.0}, "is_again": True},
        {"step": 3, "values": {"ok": 1.0}, "is_again": False},
    ]
    exporter: Any = tracking.exporter
    assert [exporter.sent[0][key] for key in ("file", "units")] == ["train-000003", 16]
    assert exporter.sent[-1] == "closed"
    assert "agentrl export otel" in exporter.options["kept"]


def test_the_other_ranks_tell_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_module, "Courier", Mailbox)
    config, run = toy(tmp_path, "{trackers: [tensorboard]}")
    with open_tracking(config, run, print, is_first=False) as tracking:
        assert tracking.couriers == []


def test_what_a_tracker_calls_the_run_is_kept_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_module, "Courier", Mailbox)
    monkeypatch.setattr(tracking_module, "find_spec", lambda name: types.SimpleNamespace(origin=name))
    config, run = toy(tmp_path, "{trackers: [wandb]}")
    with open_tracking(config, run, print) as tracking:
        mailbox: Any = tracking.trackers[0]
        assert (mailbox.start["is_resumed"], mailbox.start["known"]) == (False, {})
        mailbox.options["on_started"]({"identity": {"id": "abc"}})
    with open_tracking(config, run, print) as tracking:
        mailbox = tracking.trackers[0]
        assert (mailbox.start["is_resumed"], mailbox.start["known"]) == (True, {"id": "abc"})
    (run / "tracking.json").write_text("{torn")
    with open_tracking(config, run, print) as tracking:
        mailbox = tracking.trackers[0]
        assert mailbox.start["is_resumed"] is False


def test_f57_a_package_that_is_missing_is_told_with_its_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_module, "find_spec", {}.get)
    config, run = toy(tmp_path, "{trackers: [mlflow]}")
    told: list[str] = []
    with open_tracking(config, run, told.append) as tracking:
        tracking.metrics(1, {"kl": 1.0})
    assert told == ["warning: mlflow is not installed, the run goes on without it: pip install mlflow-skinny"]


def test_nothing_that_is_wrong_with_a_tracker_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no spec")

    monkeypatch.setattr(tracking_module, "find_spec", broken)
    monkeypatch.setattr(tracking_module, "need_opentelemetry", broken)
    config, run = toy(tmp_path, "{trackers: [mlflow], opentelemetry: {endpoint: 'http://127.0.0.1:4318'}}")
    told: list[str] = []
    with open_tracking(config, run, told.append) as tracking:
        assert tracking.couriers == []
    assert [text.split(":")[1].strip() for text in told] == ["mlflow", "opentelemetry"]


def test_nobody_to_tell_costs_nothing() -> None:
    tracking = Tracking()
    tracking.metrics(1, {"kl": 1.0})
    tracking.rollouts("train-000001", 8)
    tracking.close()

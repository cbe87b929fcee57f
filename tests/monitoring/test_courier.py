"""F57: whatever is wrong with a receiver, whoever sends returns at once, is told once, and ends in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.monitoring import courier as courier_module
from agentrl.monitoring.courier import Courier, Deadlines
from agentrl.monitoring.process import GivenUp, ReceivingProcess
from agentrl.monitoring.receiver import without_secrets

FAULTS = Path(__file__).with_name("faults.py")
AMPLE = Deadlines(start=60.0, message=60.0, finish=60.0)


class Told(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)

    @property
    def warnings(self) -> list[str]:
        return [text for text in self if text.startswith("warning")]


def courier_to(fault: str, out: Path, told: Told, deadlines: Deadlines = AMPLE, **options: Any) -> Courier:
    return Courier(
        "tracker",
        [sys.executable, str(FAULTS), fault],
        {"out": str(out), "secret": "canary-secret"},
        deadlines,
        tell=told,
        units="steps",
        kept="metrics.jsonl has them",
        **options,
    )


def delivered(courier: Courier, seconds: float = 60.0) -> None:
    courier.close(time.monotonic() + seconds)


def wait_for_trouble(courier: Courier, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not courier.trouble and time.monotonic() < deadline:
        time.sleep(0.02)


def test_messages_arrive_in_order_and_the_end_waits_for_them(tmp_path: Path) -> None:
    told, out = Told(), tmp_path / "out"
    started: list[Any] = []
    courier = courier_to("none", out, told, on_started=started.append)
    for n in range(20):
        courier.send({"n": n})
    delivered(courier)
    assert out.read_text().split() == [str(n) for n in range(20)]
    assert (told, courier.lost, courier.trouble) == ([], 0, "")
    assert started == [{"identity": {"id": "abc"}}]


FATAL = {
    "start-hangs": "no answer within 0.5 s",
    "start-raises": "no login",
    "start-exits": "SystemExit: 3",
    "start-dies": "its process ended with code 7",
    "start-asks": "EOF",
    "log-hangs": "no answer within 0.5 s",
    "log-holds-the-lock": "no answer within 0.5 s",
    "log-raises": "5 failures in a row, the last one: ConnectionError: HTTP 500",
    "finish-hangs": "no answer within 0.5 s",
    "finish-raises": "cannot say goodbye",
}
HANGS = {fault for fault, why in FATAL.items() if "0.5 s" in why}


@pytest.mark.parametrize("fault", FATAL)
def test_f57_a_fault_is_told_and_leaves_no_process(fault: str, tmp_path: Path) -> None:
    told, out = Told(), tmp_path / "out"
    part = fault.partition("-")[0].replace("log", "message")
    deadlines = replace(AMPLE, **{part: 0.5}) if fault in HANGS else AMPLE
    courier = courier_to(fault, out, told, deadlines)
    for n in range(6):
        courier.send({"n": n})
    if not fault.startswith("finish"):
        wait_for_trouble(courier)
    delivered(courier)
    assert FATAL[fault] in courier.trouble
    assert sum("is given up" in text for text in told) == 1
    assert len(told.warnings) == (2 if fault == "log-raises" else 1)  # the first refusal is told, and the end of them
    assert courier.lost == (0 if fault.startswith("finish") else 6)
    if courier.lost:
        assert told[-1] == "tracker: 6 steps did not arrive; metrics.jsonl has them"
    assert courier._process is not None
    assert courier._process._process.poll() is not None
    assert not any(thread.name == "courier-tracker" for thread in __import__("threading").enumerate())


def test_f57_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    told = Told()
    courier = Courier(
        "tracker", [str(tmp_path / "no-such-program")], {}, AMPLE, tell=told, units="steps", kept="nowhere"
    )
    delivered(courier)
    assert "cannot be started" in courier.trouble


def test_one_refusal_is_told_and_the_rest_arrives(tmp_path: Path) -> None:
    told, out = Told(), tmp_path / "out"
    courier = courier_to("log-raises-once", out, told)
    for n in range(5):
        courier.send({"n": n})
    delivered(courier)
    assert out.read_text().split() == ["1", "2", "3", "4"]
    assert (courier.lost, courier.trouble) == (1, "")
    assert [text for text in told.warnings if "HTTP 500" in text] == told.warnings
    assert len(told.warnings) == 1


def test_threads_and_exit_handlers_of_a_library_delay_nothing(tmp_path: Path) -> None:
    told, out = Told(), tmp_path / "out"
    courier = courier_to("leaves-threads", out, told, AMPLE)
    courier.send({"n": 1})
    delivered(courier)
    assert (told, out.read_text()) == ([], "1\n")
    assert courier._process is not None
    assert courier._process._process.poll() is not None


def test_what_a_library_prints_is_no_answer(tmp_path: Path) -> None:
    told, out, log = Told(), tmp_path / "out", tmp_path / "log"
    courier = courier_to("prints", out, told, log=log)
    courier.send({"n": 1})
    delivered(courier)
    assert (told, out.read_text(), log.read_text()) == ([], "1\n", "a library says hello\n")


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "QUEUE_MESSAGES", 5)
    told = Told()
    courier = courier_to("log-hangs", tmp_path / "out", told)
    for n in range(200):
        courier.send({"n": n})
    delivered(courier, 0.5)
    assert courier.lost == 200
    assert told[-1].startswith("tracker: 200 steps did not arrive")


def test_what_a_receiver_still_holds_when_it_is_given_up_is_counted(tmp_path: Path) -> None:
    told = Told()
    courier = courier_to("waits", tmp_path / "out", told)
    courier.send({"n": 1}, units=10)
    delivered(courier)
    assert courier.lost == 10
    assert "the server is down" in told[0]


def test_no_secret_of_the_environment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_API_KEY", "canary-secret")
    told, log = Told(), tmp_path / "log"
    courier = courier_to("start-raises", tmp_path / "out", told, log=log)
    delivered(courier)
    assert "no login, [secret]" in told[0]
    assert "canary-secret" not in "".join(told) + log.read_text()
    assert without_secrets("key abc", {"A_TOKEN": "abc"}) == "key abc"  # too short to be struck out everywhere


def test_a_child_takes_itself_for_no_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    program = "import json, os, sys; sys.stdin.readline(); print(json.dumps({'error': os.environ.get('RANK', 'none')}))"
    courier = Courier("t", [sys.executable, "-c", program], {}, AMPLE, tell=Told(), units="steps", kept="")
    delivered(courier)
    assert courier.trouble == "none"


def test_a_process_whose_run_was_killed_ends_by_itself(tmp_path: Path) -> None:
    program = f"""
import os, sys, time
from agentrl.monitoring.courier import Courier, Deadlines
courier = Courier("t", [sys.executable, {str(FAULTS)!r}, "none"], {{"out": {str(tmp_path / "out")!r}}},
                  Deadlines(20.0, 20.0, 20.0), tell=print, units="steps", kept="")
courier.send({{"n": 1}})
while not os.path.exists({str(tmp_path / "out")!r}):
    time.sleep(0.02)
print(courier._process._process.pid, flush=True)
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    child, deadline = int(run.stdout), time.monotonic() + 20
    while time.monotonic() < deadline and Path(f"/proc/{child}").exists():
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_who_takes_nothing_out_of_its_pipe_is_given_up_in_time() -> None:
    process = ReceivingProcess([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(GivenUp, match=r"no answer within 0\.2 s"):
            process.ask({"config": "x" * 1_000_000}, 0.2)
    finally:
        process.end()


def test_messages_larger_than_a_pipe_arrive() -> None:
    program = (
        "import json, sys\nfor line in sys.stdin: print(json.dumps({'size': len(json.loads(line)['x'])}), flush=True)"
    )
    process = ReceivingProcess([sys.executable, "-c", program])
    try:
        assert [process.ask({"x": "x" * size}, 20)["size"] for size in (1, 1_000_000)] == [1, 1_000_000]
    finally:
        process.end()


# A gateway's, which is bounded in units and runs for as long as it does


def test_f56_beyond_its_bound_units_are_lost_at_once_and_below_it_none(tmp_path: Path) -> None:
    courier = courier_to("start-hangs", tmp_path / "out", Told(), max_units=10, whose="gateway")
    for units in (4, 6, 1, 3):
        courier.send({"n": units}, units)
    assert (courier.taken, courier.waiting, courier.lost) == (14, 10, 4)
    courier.close(time.monotonic())
    assert (courier.waiting, courier.lost) == (0, 14)
    assert courier.has_ended


def test_f56_a_receiver_that_kept_something_is_asked_to_try_again(tmp_path: Path) -> None:
    told, out = Told(), tmp_path / "out"
    courier = courier_to("waits", out, told, retry_seconds=0.0)
    courier.send({"n": 1})
    deadline = time.monotonic() + 30
    while courier.problem != "KeyError: 'n'" and time.monotonic() < deadline:  # the question has no n
        time.sleep(0.01)
    assert courier.problem == "KeyError: 'n'"
    courier.close(time.monotonic() + 30)

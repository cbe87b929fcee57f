from __future__ import annotations

import io

import pytest

from agentrl.progress import LiveReporter, QuietReporter, SilentReporter, duration, reporter_for

METRICS = {"reward_train": 0.61234, "kl_per_token": 0.0123, "tool_calls": 5.25, "entropy": 1.0}


def test_a_log_gets_one_plain_line_an_event() -> None:
    stream = io.StringIO()
    reporter = QuietReporter(stream)
    reporter.phase("training")
    reporter.step(1, 4, METRICS)
    reporter.message("checkpoint saved")
    reporter.close()
    lines = stream.getvalue().splitlines()
    assert lines[1].startswith("step 1/4  reward 0.612  KL 0.0123  calls/episode 5.2")
    assert lines[1].endswith(" s left")
    assert (lines[0], lines[2]) == ("training", "checkpoint saved")


def test_metrics_that_a_step_lacks_are_left_out() -> None:
    stream = io.StringIO()
    QuietReporter(stream).step(2, 2, {"reward_train": float("nan")})
    assert stream.getvalue() == "step 2/2  reward -  0 s left\n"


def test_the_bar_shows_steps_and_figures() -> None:
    stream = io.StringIO()
    reporter = LiveReporter(stream)
    reporter.phase("training [all]")
    reporter.step(4, 4, METRICS)
    reporter.message("done")
    reporter.close()
    reporter.close()
    assert "training [all]" in stream.getvalue()
    assert "4/4" in stream.getvalue()
    assert "reward 0.612" in stream.getvalue()


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    reporter.phase("a")
    reporter.step(1, 1, {})
    reporter.message("b")
    reporter.close()
    assert capsys.readouterr() == ("", "")


def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    assert isinstance(reporter_for(io.StringIO()), QuietReporter)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (3900, "1 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("kind", [QuietReporter, LiveReporter])
def test_what_a_tool_says_of_its_failure_obeys_no_terminal(kind: type[QuietReporter] | type[LiveReporter]) -> None:
    stream = io.StringIO()
    reporter = kind(stream)
    reporter.message("paused: tool f: \x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp\r\nsecond line")
    reporter.phase("loading \x1b[31m")
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(stream.getvalue())
    assert "second line" in stream.getvalue().split("\n")

"""The parts of the rehearsal: policies that are what they are called, defects, users, and the config they share."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from safetensors.torch import load_file

from agentrl.chat import ParsedTurn
from agentrl.config import load_config
from agentrl.types import Sample, ToolCall
from examples.release.model_server import create_app, parse_policy
from examples.release.policies import BASELINE, TRAINED, packed, updated, write_policy
from examples.release.settings import CONFIG, GATEWAY, MARGINS, SPANS, rehearsal_config
from examples.release.speaker import Answer, Defect, Speaker
from examples.release.tools import corpus, finqa_tools
from examples.release.users import Crowd, Visit


def test_a_packed_update_is_within_half_a_step_of_each_row() -> None:
    generator = torch.Generator().manual_seed(3)
    before = {"a": torch.randn(5, 7, generator=generator), "b": torch.randn(4, generator=generator)}
    after = {name: each + 0.01 * torch.randn(each.shape, generator=generator) for name, each in before.items()}
    change = packed(before, after)
    again = updated(before, change, 1.0)
    for name in before:
        assert change[name].dtype == torch.int8
        worst = (again[name] - after[name]).abs() / change[name + "/scale"]
        assert worst.max() <= 0.51, "half a step, and rounding of floats"
    assert updated(before, change, 0.0)["a"] is before["a"]


def test_the_shipped_update_is_small_and_of_every_weight() -> None:
    before, change = load_file(BASELINE / "model.safetensors"), load_file(TRAINED)
    assert TRAINED.stat().st_size < 4_000_000
    assert {name.removesuffix("/scale") for name in change} == set(before)


def test_a_policy_folder_loads_like_any_checkpoint(tmp_path: Path) -> None:
    folder = write_policy("trained", tmp_path / "trained")
    before, after = load_file(BASELINE / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {path.name for path in folder.iterdir()} >= {"config.json", "tokenizer.json", "chat_template.jinja"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=trained", ("a", "trained", Defect())),
        ("s=slow,slowness=3", ("s", "slow", Defect(slowness=3.0))),
        ("l=leaky,mixes_up=0.1,slowness=2", ("l", "leaky", Defect(2.0, 0.1))),
    ],
    ids=["plain", "slow", "both"],
)
def test_a_policy_is_named_on_the_command_line(text: str, found: tuple[str, str, Defect]) -> None:
    assert parse_policy(text) == found


@pytest.mark.parametrize("text", ["trained", "a=unknown", "a=trained,speed=2"], ids=["no name", "no kind", "no option"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--policy"):
        parse_policy(text)


class Said(Speaker):
    """Says what it is told to, without weights."""

    def __init__(self, defect: Defect, turns: list[ParsedTurn]) -> None:
        self._defect, self._random, self._asked = defect, _Always(), []  # type: ignore[assignment]
        self.turns, self.sessions = turns, []

    async def answer(self, messages: Any, *, session: str, user: str, **_: Any) -> Answer:
        self.sessions.append(session)
        turn = self.turns.pop(0)
        text = turn.text
        if not turn.calls and self._mixes_up(messages, user):
            text += f" . for {self._other(user)}"
        return Answer(turn, text, Sample((1, 2), (-0.1, -0.2), is_truncated=False, policy_version=0), 10)


class _Always:
    def random(self) -> float:
        return 0.0


CALL = ParsedTurn("", (ToolCall("call_1", "calculate", '{"expression": "1 + 1"}'),), ())
ANSWER = ParsedTurn("the answer is 2", (), ())


async def ask(speaker: Speaker, **body: Any) -> httpx.Response:
    transport = httpx.ASGITransport(create_app({"p": speaker}))
    async with httpx.AsyncClient(transport=transport, base_url="http://models") as client:
        messages = body.pop("messages", [{"role": "user", "content": "what is one and one ?"}])
        return await client.post("/v1/chat/completions", json={"model": "p", "messages": messages, **body})


def test_a_turn_is_the_same_whole_and_streamed() -> None:
    whole = asyncio.run(ask(Said(Defect(), [CALL]))).json()
    streamed = asyncio.run(ask(Said(Defect(), [CALL]), stream=True, stream_options={"include_usage": True})).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    (call,) = whole["choices"][0]["message"]["tool_calls"]
    told = [each for chunk in chunks for choice in chunk["choices"] for each in choice["delta"].get("tool_calls", [])]
    assert told == [{"index": 0, **call}]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == whole["usage"]
    assert streamed.endswith("data: [DONE]\n\n")


def test_an_unknown_model_is_404() -> None:
    assert asyncio.run(ask(Said(Defect(), [ANSWER]), model="q")).status_code == 404


def test_a_policy_that_mixes_up_its_users_says_what_another_one_asked() -> None:
    speaker = Said(Defect(mixes_up=1.0), [ANSWER, ANSWER, ANSWER])
    first = asyncio.run(ask(speaker, user="u1", messages=[{"role": "user", "content": "what is mine ?"}])).json()
    second = asyncio.run(ask(speaker, user="u2", messages=[{"role": "user", "content": "and mine ?"}])).json()
    nobody = asyncio.run(ask(speaker)).json()
    assert first["choices"][0]["message"]["content"] == "the answer is 2"
    assert second["choices"][0]["message"]["content"] == "the answer is 2 . for what is mine ?"
    assert nobody["choices"][0]["message"]["content"] == "the answer is 2", "an evaluation has no users to mix up"


def served(reply: dict[str, Any], feedback: list[dict[str, Any]]) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/feedback"):
            feedback.extend(json.loads(request.content)["events"])
            return httpx.Response(200, json={})
        return httpx.Response(200, json={"choices": [{"index": 0, "message": reply}]})

    return httpx.MockTransport(handle)


def visit(answer: str) -> tuple[Visit, list[dict[str, Any]]]:
    questions = [each for each in corpus().questions if each.split == "test"][:2]
    crowd = Crowd("http://gateway/v1", {}, finqa_tools(), questions, 5, streamed=0.0)
    feedback: list[dict[str, Any]] = []

    async def run() -> None:
        async with httpx.AsyncClient(transport=served({"role": "assistant", "content": answer}, feedback)) as client:
            await crowd._visit(client, 1)

    asyncio.run(run())
    return crowd.visits[0], feedback


def test_a_users_feedback_is_what_the_grader_and_the_check_say() -> None:
    questions = [each for each in corpus().questions if each.split == "test"][:2]
    told, feedback = visit(f"the answer is 12 . for {questions[0].question} and {questions[1].question}")
    assert told.violations == 1, "his own question is no violation"
    kinds = {event["kind"]: event for event in feedback}
    assert set(kinds) == {"outcome", "grade", "override", "tool", "safety"}
    assert kinds["safety"]["violations"] == 1
    assert kinds["outcome"]["success"] is (kinds["grade"]["score"] >= 0.999)
    assert len({event["event_id"] for event in feedback}) == 5


def test_the_same_seed_brings_the_same_users() -> None:
    assert visit("the answer is 12")[0].is_override == visit("the answer is 12")[0].is_override


def test_the_rehearsal_changes_spans_margins_and_servers_and_nothing_else(tmp_path: Path) -> None:
    made = rehearsal_config(tmp_path, baseline="http://127.0.0.1:1", candidates="http://127.0.0.1:2", port=8)
    file = tmp_path / "made.yaml"
    file.write_text(yaml.safe_dump(made), "utf-8")
    shipped, played = load_config(CONFIG).model_dump(), load_config(file).model_dump()
    for section in shipped.keys() - {"release", "gateway", "monitoring"}:
        assert shipped[section] == played[section], section
    release = {key for key in shipped["release"] if shipped["release"][key] != played["release"][key]}
    assert release == {*SPANS, "folder", "gates"}
    gateway = {key for key in shipped["gateway"] if shipped["gateway"][key] != played["gateway"][key]}
    assert gateway == {*GATEWAY, "port", "admin_port", "upstreams"}
    for before, after in zip(shipped["release"]["gates"], played["release"]["gates"], strict=True):
        changed = {key for key in before if before[key] != after[key]}
        assert changed <= {"margin", "min_samples", "label_lag"}, before["name"]
        assert bool(changed) is (before["name"] in MARGINS)

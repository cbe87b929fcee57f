"""The server as notebooks reach it: the official client where it is installed, httpx everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

pytest.importorskip("fastapi", reason="the extra agentrl[serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra agentrl[serve] is not installed")

from agentrl.cli.main import app

KEY = "secret-key"
CHECK: Any = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_json.value }}",
    "reference": "{{ item.reference_answer }}",
    "operation": "eq",
}


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """`agentrl grader serve`, with a key; ended by SIGTERM, as tools.serve ends its servers."""
    command = [sys.executable, "-m", "agentrl", "grader", "serve"]
    environment = {**os.environ, "AGENTRL_API_KEY": KEY}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        yield line.split()[-1]
        process.terminate()
        assert process.wait(10) in (0, -15)


def test_the_official_client_runs_and_validates(base_url: str) -> None:
    openai = pytest.importorskip("openai", reason="the official client is not installed; httpx asks the same below")
    client = openai.OpenAI(base_url=f"{base_url}/v1", api_key=KEY)
    graders = client.fine_tuning.alpha.graders
    result = graders.run(grader=CHECK, model_sample='{"value": "42"}', item={"reference_answer": "42"})
    assert (result.reward, result.metadata.type, result.metadata.errors.other_error) == (1.0, "string_check", False)
    assert graders.validate(grader=CHECK).grader.operation == "eq"
    with pytest.raises(openai.BadRequestError) as error:
        graders.run(grader=CHECK | {"operation": "is"}, model_sample="42")
    assert (error.value.param, error.value.code) == ("grader.operation", "invalid_grader")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{base_url}/v1", api_key="wrong").fine_tuning.alpha.graders.validate(grader=CHECK)


def test_plain_http_runs_and_validates(base_url: str) -> None:
    """What the official client sends, header by header."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"{base_url}/v1/fine_tuning/alpha", headers=headers, trust_env=False) as client:
        body = {"grader": CHECK, "model_sample": '{"value": "42"}', "item": {"reference_answer": "42"}}
        reply = client.post("/graders/run", json=body)
        assert (reply.status_code, reply.headers["Content-Type"]) == (200, "application/json")
        assert reply.json()["reward"] == 1.0
        assert client.post("/graders/validate", json={"grader": CHECK}).json() == {"grader": CHECK, "warnings": []}
        refused = client.post("/graders/run", json=body | {"grader": CHECK | {"operation": "is"}})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "grader.operation")
        assert client.post("/graders/run", json=body, headers={"Authorization": "Bearer no"}).status_code == 401


def test_code_runs_in_the_sandbox(base_url: str) -> None:
    """The server's own key is in its environment, and not in that of a grader."""
    source = (
        "import os\n\n"
        "def grade(sample, item):\n"
        "    return float('AGENTRL_API_KEY' in os.environ) + len(sample['output_text']) / 10\n"
    )
    body = {"grader": {"type": "python", "name": "code", "source": source}, "model_sample": "12345"}
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, trust_env=False) as client:
        reply = client.post(f"{base_url}/v1/fine_tuning/alpha/graders/run", json=body, timeout=60).json()
    if "no level that isolates works on this machine" in str(reply.get("error")):
        pytest.skip("no sandbox works on this machine, so nothing is run")
    assert (reply["reward"], reply["metadata"]["type"]) == (0.5, "python")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "grader.example"])
def test_t22_without_a_key_no_other_machine_may_reach_it(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTRL_API_KEY", raising=False)
    result = CliRunner().invoke(app, ["grader", "serve", "--host", host])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--host {host}: other machines can reach it, and no API key is set" in result.stderr


def test_a_port_that_is_taken_is_named(base_url: str) -> None:
    port = base_url.rpartition(":")[2]
    result = CliRunner().invoke(app, ["grader", "serve", "--port", port])
    assert result.exit_code == 2
    assert f"--host 127.0.0.1 --port {port}: cannot listen there" in result.stderr


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fastapi", "agentrl.routes.server", "agentrl.routes.app"):
        monkeypatch.setitem(sys.modules, name, None)
    result = CliRunner().invoke(app, ["grader", "serve"])
    assert result.exit_code == 2
    assert "pip install 'agentrl[serve]'" in result.stderr

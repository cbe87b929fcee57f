"""`tools:` in its three kinds and its short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.config import RunConfig, load_config, to_yaml
from agentrl.errors import ConfigError

HEAD = "workflow: {target: t, baseline: b}\n"


def load(folder: Path, text: str, *overrides: str) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(HEAD + text)
    return load_config(path, overrides)


def test_a_bare_list_is_one_of_endpoints(tmp_path: Path) -> None:
    text = "tools:\n- {name: search, server_url: 'https://example.com/s', headers: {Authorization: 'Bearer ${KEY}'}}\n"
    config = load(tmp_path, text, "tools[0].retries=1")
    assert config.tools
    assert [(each.name, each.retries) for each in config.tools.endpoints] == [("search", 1)]
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tools:\n- {name: a}\n", r"run.yaml:3: tools.endpoints\[0\].server_url: missing"),
        ("tools:\n- {name: a, server_url: 'ftp://x'}\n", r"run.yaml:3: .*found the text 'ftp://x'"),
        ("tools:\n- {name: a, server_url: 'http://x', nam: 1}\n", r"run.yaml:3: .*unknown key; did you mean 'name'"),
        ("tools:\n  mcp: [{name: a}]\n", r"tools.mcp\[0\]: found neither url nor command"),
        ("tools:\n  mcp: [{name: a, url: 'http://x', command: [b]}]\n", r"tools.mcp\[0\]: found both url and command"),
        ("tools:\n  mcp: [{name: a, command: [b], headers: {X: y}}]\n", "found headers with a command; allowed: env"),
        (
            "tools:\n  mcp: [{name: a, command: ['{data.path}']}]\n",
            "unknown placeholder {data.path}; allowed: {python}",
        ),
        ("tools:\n  mcp: [{name: a, command: [b], env: {API_KEY: abc}}]\n", "env.API_KEY: a secret is written out"),
        ("tools:\n  mcp: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]\n", "found 'a' a second time"),
        ("tools:\n  mcp: [{name: a, url: '{serve}/mcp'}]\n", "tools.serve starts no server"),
        (
            "tools:\n  python: [calculator]\n",
            r"run.yaml:3: tools.python\[0\].function: found 'calculator'; allowed: pack",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        load(tmp_path, text)


def test_a_python_tool_may_be_its_name_alone(tmp_path: Path) -> None:
    config = load(tmp_path, "tools:\n  python: ['a.b:c', {function: 'd:e', timeout_seconds: 2.0}]\n")
    assert config.tools
    assert [(each.function, each.timeout_seconds) for each in config.tools.python] == [("a.b:c", 30.0), ("d:e", 2.0)]

"""What README and docs show is true: configs load, code runs, commands exist, links lead somewhere.

A block's info string says what it is: ```yaml is a config or a list of its sections, `yaml fragment` part of one,
`yaml other` none of ours; ```python runs, `python no-run: REASON` is only compiled; ```bash and ```console hold
commands, and the output of `$ agentrl check ...` is compared (a line `...` stands for any lines).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from typer.main import get_command
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import RunConfig, load_any_config, load_config
from agentrl.runs import RunDirectory
from docs.make_configuration import PAGE, anchor, page
from tests.factories import make_rollout

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
MINIMAL: dict[str, Any] = {
    "workflow": {"target": "t", "baseline": "b"},
    "data": {"train": "a.jsonl", "validation": "b.jsonl"},
    "tools": {"endpoints": [{"name": "search", "server_url": "http://127.0.0.1:1/search"}]},
    "grading": {"name": "g", "url": "http://127.0.0.1:1/grade"},
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    found = []
    for path in PAGES:
        text = path.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match[1].split(" ")[0] == language:
                found.append(Block(path, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def commands() -> list[tuple[Block, str]]:
    """Every command of bash and console blocks, `$ ` taken off."""
    return [
        (block, line.removeprefix("$ "))
        for language in ("bash", "console")
        for block in blocks(language)
        for line in block.text.splitlines()
        if (line.startswith("$ ") if language == "console" else line.strip() and not line.startswith("#"))
    ]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that looks like the repository and holds a finished run, runs/demo."""
    for name in ("configs", "examples", "docs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    with RunDirectory.create(tmp_path / "runs" / "demo", config_yaml="", manifest={}) as run:
        run.append_metrics({"step": 1, "reward_train": 0.5})
        for name in ("train-000001", "validation-final"):
            run.write_rollouts(name, [make_rollout()])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def merged(base: Any, change: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(change, dict)) or "type" in change:  # a declaration stands by itself
        return change
    return {**base, **{key: merged(base.get(key), value) for key, value in change.items()}}


def test_there_are_blocks_of_every_kind() -> None:
    assert all(blocks(language) for language in ("yaml", "python", "bash", "console", "json"))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_config(block: Block, tmp_path: Path) -> None:
    kind = block.info.removeprefix("yaml").strip()
    content = yaml.safe_load(block.text)
    if kind == "other":
        assert isinstance(content, dict)
        return
    assert kind in ("", "fragment")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(merged(MINIMAL, content)) if kind else block.text)
    load_any_config(path)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, workplace: Path) -> None:
    code = compile(block.text, str(block), "exec")
    kind = block.info.removeprefix("python").strip()
    if kind:
        assert re.fullmatch(r"no-run: \w.*", kind), "say why it does not run"
        return
    exec(code, {"__name__": "an_example"})


@pytest.mark.parametrize(("block", "command"), commands(), ids=str)
def test_a_command_exists(block: Block, command: str, workplace: Path) -> None:
    words = shlex.split(command.split(" > ")[0])
    while "=" in words[0]:
        words.pop(0)  # VARIABLE=value before the command
    if words[:2] == ["accelerate", "launch"]:
        parsed = launch_command_parser().parse_args(words[2:])  # refuses unknown options
        assert parsed.module
        words = [parsed.training_script, *parsed.training_script_args]
    if words[0] == "agentrl":
        verb: Any = get_command(app)
        words.pop(0)
        while hasattr(verb, "commands"):
            if words[0] not in verb.commands and "label" in verb.commands:
                words.insert(0, "label")  # what `agentrl audit RUN_DIR` is short for
            verb = verb.commands[words.pop(0)]
        with verb.make_context(verb.name, words) as context:  # refuses unknown options and missing arguments
            if f"{command}\nerror: " not in block.text and "config" in context.params:
                load_any_config(context.params["config"], context.params["overrides"])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(word in targets for word in words[1:] if "=" not in word)
    else:
        assert words[:2] == ["python", "-m"], f"{block}: what is {words[0]}?"
        module = ROOT / words[2].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_console_output_is_what_is_printed(block: Block, workplace: Path) -> None:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, shown = part.split("\n", 1)
        words = shlex.split(command)
        assert words[:2] == ["agentrl", "check"], "only the output of `check` can be compared"
        result = CliRunner().invoke(app, words[1:])
        pattern = "".join("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in shown.splitlines())
        assert re.fullmatch(pattern, result.output), result.output


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", path.read_text("utf-8"))):
        if target.startswith("https://"):
            continue
        name, _, fragment = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert fragment in {github_anchor(heading) for heading in headings}, f"{path.name} links to {target}"


def github_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in LINK.findall((ROOT / "README.md").read_text("utf-8"))}
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked


def test_the_configuration_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python docs/make_configuration.py"


def test_the_configuration_page_has_anchors_as_github_makes_them() -> None:
    assert github_anchor("release.gates[].min_samples") == anchor("release.gates[].min_samples")


def test_the_metrics_page_names_every_figure_of_a_policy_and_a_comparison() -> None:
    from agentrl.evaluation.compare import evaluation_summary
    from agentrl.evaluation.metrics import evaluate_rollouts

    report = evaluate_rollouts([make_rollout(f"t{n}") for n in range(3)], pass_threshold=0.75)
    summary = evaluation_summary(baseline=report, final=report, best=report, test_baseline=report, test_best=report)
    keys = {*summary, *summary["baseline"], *summary["comparison"]["validation"]}
    keys |= {*summary["comparison"]["validation"]["differences"]["reward"], *summary["baseline"]["stop_reasons"]}
    text = (ROOT / "docs/metrics.md").read_text("utf-8")
    assert not [key for key in keys if f"`{key}`" not in text]


def test_the_metrics_page_names_what_an_update_reports() -> None:
    """A real update of a tiny policy; what the loop adds to a line is compared in tests/examples/test_quickstart.py."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from agentrl.config import GuardsConfig, KLConfig, PolicyConfig, PPOConfig
    from agentrl.policy.policy import Policy
    from agentrl.policy.reference import ReferencePolicy
    from agentrl.ppo.trainer import PPOTrainer
    from agentrl.rollout.trajectory import to_trajectories
    from examples.finqa.tokenizer import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(["the answer is"])
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
    policy = Policy(model, tokenizer, PolicyConfig(value_hidden_size=8))
    config = PPOConfig(
        learning_rate=0.1,
        minibatches=2,
        epochs=2,
        kl=KLConfig(placement="loss", estimator="k2"),
        guards=GuardsConfig(max_update_kl=1.0e-9),
    )
    trajectories = to_trajectories([make_rollout(f"t{n}", score=float(n % 2)) for n in range(4)])
    metrics = PPOTrainer(policy, ReferencePolicy.freeze(policy), config).update(trajectories)
    assert {"abandoned_minibatches", "kl_loss"} <= metrics.keys()  # present under some settings only
    text = (ROOT / "docs/metrics.md").read_text("utf-8")
    assert not [key for key in metrics if f"`{key}`" not in text]


def test_the_guards_page_names_every_rule_and_threshold() -> None:
    from agentrl.ppo.rules import rules

    text = (ROOT / "docs/guards.md").read_text("utf-8")
    config = RunConfig.model_fields["ppo"].default
    names = [rule.name for rule in rules(config)]
    assert len(names) > 20
    assert not [name for name in (*names, *config.guards.model_dump()) if f"`{name}`" not in text]


def test_the_finqa_page_counts_its_questions_right() -> None:
    text = (ROOT / "docs/finqa.md").read_text("utf-8")
    rows = [json.loads(line) for line in (ROOT / "examples/finqa/data/questions.jsonl").open(encoding="utf-8")]
    for split in ("train", "validation", "test"):
        paths = [row["path"] for row in rows if row["split"] == split]
        companies = {path.split("/")[0] for path in paths}
        assert f"| {split} | {len(paths):,} | {len(companies)} | {len(set(paths))} |" in text


def test_the_finqa_page_shows_a_real_page() -> None:
    from examples.finqa.corpus import load_corpus, render_page

    text = (ROOT / "docs/finqa.md").read_text("utf-8")
    path = re.search(r'cat \{"path": "([^"]+)"\}', text)
    assert path is not None
    page = next(each for each in load_corpus(ROOT / "examples/finqa/data").pages if each.path == path[1])
    shown = text.split(path[0])[1].split("the answer is")[0].split("\n")
    lines = [line.strip() for line in shown if line.strip() not in ("", "...")]
    assert len(lines) == 2
    assert set(lines) <= set(render_page(page).splitlines())


def test_the_server_of_the_endpoints_page_passes_the_checks_before_training(tmp_path: Path) -> None:
    from agentrl.tools.preflight import check_endpoints
    from agentrl.tools.serve import serving

    page = ROOT / "docs/endpoints.md"
    server = next(block.text for block in blocks("python") if block.page == page and "listening on" in block.text)
    fragment = next(block.text for block in blocks("yaml") if block.page == page and "capitals.py" in block.text)
    (tmp_path / "capitals.py").write_text(server)
    config_file = tmp_path / "run.yaml"
    config_file.write_text(yaml.safe_dump({**MINIMAL, **yaml.safe_load(fragment)}))
    config = load_config(config_file, [f"tools.serve[0].command[1]={tmp_path / 'capitals.py'}"])
    assert config.tools is not None
    row = next(json.loads(block.text) for block in blocks("json") if '"q1"' in block.text)
    with serving(config.tools.serve, {}) as (base_url, *_):
        asyncio.run(
            check_endpoints(
                config.tools.endpoints, config.grading, item=row, messages=row["messages"], base_url=base_url
            )
        )


def test_the_configuration_script_writes_the_page_it_checks(tmp_path: Path) -> None:
    script = tmp_path / "make_configuration.py"
    script.write_text((ROOT / "docs/make_configuration.py").read_text("utf-8"))
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    subprocess.run([sys.executable, str(script)], check=True, env={**os.environ, "PYTHONPATH": paths})
    assert (tmp_path / "configuration.md").read_text("utf-8") == PAGE.read_text("utf-8")

"""`agentrl bundle`, as a user types it: what is printed, and which exit codes programs get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from tests.release.registry.making import make_config, make_suite, write_policy


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "support.yaml"
    made = make_config(tmp_path)
    path.write_text(yaml.safe_dump(made.model_dump(mode="json", exclude_defaults=True)))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bundle", *map(str, arguments)])


def create(config: Path, policy: Path, *more: object) -> str:
    done = run("create", config, policy, "--json", *more)
    assert done.exit_code == 0, done.output
    found: str = json.loads(done.stdout)["id"]
    return found


def test_a_bundle_is_made_shown_verified_compared_exported(config: Path, tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    first = create(config, write_policy(tmp_path / "policy", 1), "--suite", suite, "--license", "data=cc-by-4.0")
    second = create(config, write_policy(tmp_path / "next" / "policy", 2), "--parent", first[:15], "--link")

    listed = run("list", config)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [second[:19], first[:19]]
    assert f"follows {first[:19]}" in listed.stdout
    shown = run("show", config, first[7:15])
    assert shown.stdout.startswith(f"{first}\n")
    assert "data: cc-by-4.0" in shown.stdout
    assert "no secrets or personal data" in shown.stdout
    assert "config.json: seed: 1 -> 2" in run("diff", config, first, second).stdout
    assert {each["state"] for each in json.loads(run("diff", config, first, first, "--json").stdout)} == {"same"}

    out = tmp_path / "out"
    assert run("export", config, first, "--out", out).exit_code == 0
    assert (out / "model.safetensors").is_file()
    assert run("export", config, first, "--out", out).exit_code == 2

    items = tmp_path / "injection.items.jsonl"
    digest = json.loads(suite.read_text())["digest"]
    assert run("suite", config, digest, "--out", tmp_path / "then").exit_code == 0
    assert (tmp_path / "then" / items.name).read_bytes() == items.read_bytes()


def test_verify_fails_with_exit_1_where_a_file_was_changed(config: Path, tmp_path: Path) -> None:
    made = create(config, write_policy(tmp_path / "policy", 1))
    whole = run("verify", config, made[:15])
    assert (whole.exit_code, whole.stdout.splitlines()[-1]) == (0, "all as it was")
    for path in (tmp_path / "releases" / "blobs").rglob("*"):
        if path.is_file() and path.read_bytes().startswith(b"{{ messages"):
            path.chmod(0o644)
            path.write_bytes(b"{{ changed }}")
    broken = run("verify", config, made[:15])
    assert broken.exit_code == 1
    assert "policy (policy): chat_template.jinja: " in broken.stdout
    assert broken.stdout.splitlines()[-1] == "damaged"
    told = run("verify", config, made[:15], "--json")
    assert (told.exit_code, len(json.loads(told.stdout)["problems"])) == (1, 2)  # the baseline has the same template


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "zz"), "at least its first 4"),
        (("show", "0000"), "none of that id"),
        (("create", "nowhere"), "no such folder"),
        (("create", "baseline", "--license", "x=y"), "allowed: policy=NAME"),
        (("create", "baseline", "--suite", "nothing.json"), "cannot be read"),
        (("suite", "00", "--out", "x"), "none of that digest"),
    ],
    ids=["no-id", "unknown", "no-policy", "license", "no-suite", "no-digest"],
)
def test_wrong_input_is_told_in_one_line_with_exit_2(config: Path, arguments: tuple[str, ...], message: str) -> None:
    verb, *rest = arguments
    done = run(verb, config, *rest)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_policy_that_may_run_code_fails_with_exit_1(config: Path, tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "policy", 1)
    (policy / "pytorch_model.bin").write_bytes(b"\x80")
    done = run("create", config, policy)
    assert done.exit_code == 1
    assert "found .bin; allowed: .safetensors" in done.stderr

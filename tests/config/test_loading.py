from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentrl.config import RunConfig, load_any_config, load_config, load_dpo_config, load_sft_config, to_yaml
from agentrl.errors import ConfigError

SHORT_FORM = """\
workflow:
  target: claims triage
  baseline: checkpoints/sft
  reward_model: claims_grader
  policy_training: ppo_kl
release:
  canary_traffic_percent: 5
  gates:
    - no_safety_regression
    - latency_delta_lt_15_percent
    - cost_per_success_not_worse
monitoring:
  - human_override_rate
  - tool_error_rate
  - policy_kl_drift
"""
WORKFLOW = "workflow:\n  target: t\n  baseline: b\n"  # three lines
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def refusal(path: Path, *overrides: str) -> str:
    """The message, with the file's directory left out."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_the_short_form_loads_as_it_is(write: Write) -> None:
    config = load_config(write(SHORT_FORM))
    assert config.workflow.reward_model == "claims_grader"
    assert config.data is config.tools is config.grading is None
    assert config.monitoring is not None
    assert config.monitoring.metrics == ("human_override_rate", "tool_error_rate", "policy_kl_drift")
    assert config.name == "run"  # the file's


def test_the_resolved_config_loads_back_to_an_equal_one(write: Write) -> None:
    config = load_config(write(SHORT_FORM), ["ppo.learning_rate=1.0e-6", "name=again"])
    assert load_config(write(to_yaml(config))) == config


@given(
    rate=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    target=st.text(min_size=1, alphabet=st.characters(exclude_categories=("Cs", "Cc"))),
)
def test_any_number_and_any_text_survive_to_yaml(rate: float, target: str) -> None:
    values = {"workflow": {"target": target, "baseline": "b"}, "ppo": {"learning_rate": rate}}
    config = RunConfig.model_validate(values)
    assert RunConfig.model_validate(yaml.safe_load(to_yaml(config))) == config


def test_the_resolved_config_keeps_the_order_of_the_classes(write: Write) -> None:
    keys = list(yaml.safe_load(to_yaml(load_config(write(SHORT_FORM)))))
    assert keys == list(RunConfig.model_fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppo: {stepz: 3}", "run.yaml:4: ppo.stepz: unknown key; did you mean 'steps'?"),
        ("ppo:\n  max_turns: 3", "run.yaml:5: ppo.max_turns: unknown key; 'max_turns' belongs under rollout"),
        ("polcy: {}", "run.yaml:4: polcy: unknown key; did you mean 'policy'?"),
        ("ppo: {steps: many}", "run.yaml:4: ppo.steps: found the text 'many'; allowed: a whole number of at least 0"),
        (
            "ppo: {learning_rate: 1e-6}",
            "run.yaml:4: ppo.learning_rate: found the text '1e-6'; allowed: a number of at least 0; "
            "YAML reads it as text: write 1.0e-6",
        ),
        (
            "ppo: {steps: 1e3}",
            "run.yaml:4: ppo.steps: found the text '1e3'; allowed: a whole number of at least 0; "
            "YAML reads it as text: write 1000",
        ),
        (
            "policy: {threads: '2'}",
            "run.yaml:4: policy.threads: found the text '2'; allowed: a whole number of at least 1 or null; "
            "in quotes it is text: write 2",
        ),
        ("ppo: {steps: 3.0}", "run.yaml:4: ppo.steps: found 3.0; allowed: a whole number of at least 0"),
        ("ppo: {steps: true}", "run.yaml:4: ppo.steps: found true; allowed: a whole number of at least 0"),
        (
            "ppo: {value_coef: .nan}",
            "run.yaml:4: ppo.value_coef: found nan; allowed: a number of at least 0, never infinite or NaN",
        ),
        (
            "ppo: {betas: [0.9]}",
            "run.yaml:4: ppo.betas: found a list of 1; allowed: a list of 2: "
            "each a number of at least 0 and less than 1",
        ),
        ("policy: {device: gpu}", "run.yaml:4: policy.device: found the text 'gpu'; allowed: auto, cpu, cuda"),
        (
            "name: no",
            "run.yaml:4: name: found false; allowed: up to 80 letters, digits, dots, dashes and underscores; "
            'YAML reads a bare no as false: write "no" in quotes',
        ),
        ("ppo: [1]", "run.yaml:4: ppo: found a list of 1; allowed: a mapping (preset, steps, tasks_per_step"),
        ("rollout:", "run.yaml:4: rollout: found nothing (null); allowed: a mapping (max_tool_calls"),
        ("seed: 1\nseed: 2", "run.yaml:5: seed: key written twice, first at run.yaml:4; keep one"),
        ("on: 1", 'run.yaml:4: YAML reads the key on as true; write "on" in quotes'),
        ("<<: {}", "run.yaml:4: merge keys (<<) are not supported; write the keys out"),
        ("seed: !!python/name:os.system x", "run.yaml:4: seed: tag tag:yaml.org,2002:python/name:os.system is not"),
        ("ppo: !!python/object/apply:os.system [x]", "run.yaml:4: ppo: tag tag:yaml.org,2002:python/object/apply:os."),
        ("seed: 2026-01-01", "run.yaml:4: seed: found 2026-01-01; allowed: a whole number of at least 0"),
        ("seed: 2026-99-99", "run.yaml:4: seed: found '2026-99-99', which YAML takes for another type; quote it"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_its_repair(write: Write, text: str, message: str) -> None:
    assert refusal(write(WORKFLOW + text)).startswith(message)


def test_all_mistakes_are_listed_from_the_top_down(write: Write) -> None:
    message = refusal(write("ppo: {stepz: 3}\nseed: -1\nworkflow: {target: t}\n"), "rollout.max_turns=0")
    lines = message.splitlines()
    assert lines[0] == "run.yaml: 4 mistakes"
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "ppo.stepz",
        "seed",
        "workflow.baseline",
        "rollout.max_turns",
    ]


def test_a_missing_key_says_what_it_is(write: Write) -> None:
    message = refusal(write("workflow:\n  target: t\n"))
    assert message.startswith("run.yaml:1: workflow.baseline: missing; it is required: Directory of the SFT checkpoint")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml: found an empty file; allowed: a mapping that starts with `workflow:`"),
        ("# nothing\n", "run.yaml: found an empty file"),
        ("- a\n", "run.yaml:1: found a list; allowed: a mapping"),
        ("text\n", "run.yaml:1: found a single value; allowed: a mapping"),
        ("a: [1\n", "run.yaml:2: not YAML: while parsing a flow sequence"),
        ("a:\n\tb: 1\n", "run.yaml:2: not YAML:"),
        ("a: " + "[" * 5000, "run.yaml: nested too deeply for a config"),
        ("a: &a [*a]\n", "run.yaml:1: too many or too deeply nested values; are aliases (*) in a loop?"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
            "run.yaml:1: too many or too deeply nested values",
        ),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(write: Write, text: str, message: str) -> None:
    assert refusal(write(text)).startswith(message)


def test_a_missing_file_names_the_near_one(write: Write) -> None:
    path = write(WORKFLOW)
    assert refusal(path.with_name("rum.yaml")) == "rum.yaml: no such file; did you mean 'run.yaml'?"
    assert "there is no directory" in refusal(path.parent / "nowhere" / "run.yaml")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"workflow: \xff")
    assert refusal(path) == "run.yaml: not UTF-8 text (byte 10)"


def test_an_override_is_typed_as_yaml_types_it(write: Write) -> None:
    overrides = ["ppo.steps=3", "ppo.kl.coef=0.1", "release.canary_traffic_percent=10", "ppo.dual_clip=", "name=x"]
    config = load_config(write(SHORT_FORM), overrides)
    assert (config.ppo.steps, config.ppo.kl.coef, config.ppo.dual_clip, config.name) == (3, 0.1, None, "x")
    assert config.release is not None
    assert config.release.canary_traffic_percent == 10


def test_a_later_override_wins(write: Write) -> None:
    assert load_config(write(WORKFLOW), ["seed=1", "seed=2"]).seed == 2


def test_an_override_reaches_into_a_list(write: Write) -> None:
    config = load_config(write(SHORT_FORM), ["release.gates[0]=task_success_not_worse"])
    assert config.release is not None
    assert config.release.gates[0].name == "task_success_not_worse"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ppo.steps", "--set ppo.steps: found no '='; allowed: section.key=value, for example --set ppo.steps=5"),
        ("=3", "--set =3: '' is no path of keys; allowed: section.key=value"),
        ("ppo..steps=3", "--set ppo..steps=3: 'ppo..steps' is no path of keys"),
        ("ppo.stepz=3", "--set ppo.stepz=3: ppo.stepz: unknown key; did you mean 'steps'?"),
        ("ppo.steps=few", "--set ppo.steps=few: ppo.steps: found the text 'few'; allowed: a whole number"),
        (
            "ppo.learning_rate=1e-6",
            "--set ppo.learning_rate=1e-6: ppo.learning_rate: found the text '1e-6'; allowed: a "
            "number of at least 0; YAML reads it as text: write 1.0e-6",
        ),
        ("workflow.target.x=1", "--set workflow.target.x=1: workflow.target is no section"),
        ("release.gates[7]=x", "--set release.gates[7]=x: release.gates has 3 entries, so the last is [2]"),
        ("release.gates.x=1", "--set release.gates.x=1: release.gates is a list"),
        ("workflow[0]=1", "--set workflow[0]=1: workflow is no list"),
        ("ppo.steps=[1", "--set ppo.steps=[1: not YAML:"),
    ],
)
def test_a_bad_override_is_named(write: Write, override: str, message: str) -> None:
    assert refusal(write(SHORT_FORM), override).startswith(message)


def test_a_header_value_is_never_shown(write: Write) -> None:
    grading = "grading:\n  name: g\n  url: http://x\n  headers: {Authorization: 123456789}\n"
    assert "123456789" not in refusal(write(WORKFLOW + grading))
    written = refusal(write(WORKFLOW + grading.replace("123456789", "Bearer abc")), "grading.headers.X-Api-Key=s3cret")
    assert "abc" not in written
    assert "s3cret" not in written
    assert "grading.headers.Authorization: a secret is written out (not shown)" in written


def test_sft_and_training_configs_are_told_apart(write: Write) -> None:
    sft = write("sft: {model: a, output: b, train: c}\n")
    assert load_sft_config(sft, ["sft.epochs=2.5"]).sft.epochs == 2.5
    assert load_any_config(sft) == load_sft_config(sft)
    assert load_sft_config(write(to_yaml(load_sft_config(sft)))) == load_sft_config(sft)
    dpo = write("dpo: {model: a, output: b, train: c}\n")
    assert load_any_config(dpo) == load_dpo_config(dpo)
    assert load_dpo_config(dpo).dpo.beta == 0.1


def test_microbatches_divide_a_batch(write: Write) -> None:
    text = "sft: {model: a, output: b, train: c, batch_size: 6, microbatch_size: 4}\n"
    with pytest.raises(ConfigError, match=r"microbatch_size: found 4; allowed: a divisor of batch_size \(6\)"):
        load_sft_config(write(text))


def test_a_config_for_the_other_verb_is_named_as_such(write: Write) -> None:
    assert refusal(write("sft: {}\n")) == "run.yaml:1: this is a config for `agentrl sft`, not for `agentrl train`"
    with pytest.raises(ConfigError, match="a config for `agentrl train`"):
        load_sft_config(write(WORKFLOW))
    with pytest.raises(ConfigError, match="a config for `agentrl sft`, not for `agentrl dpo`"):
        load_dpo_config(write("sft: {}\n"))


def test_a_grader_s_keys_stand_in_the_section_and_mistakes_in_them_are_named_as_written(write: Write) -> None:
    text = WORKFLOW + (
        "grading:\n  type: multi\n  graders:\n    a: {type: numric}\n    b: {type: numeric, near_scor: 0.1}\n"
        "    c: {retries: many}\n  calculate_output: a\n  max_scor: 2\n"
    )
    told = refusal(write(text)).splitlines()
    lines = len(WORKFLOW.splitlines())
    assert f":{lines + 4}: grading.graders.a.type: found the text 'numric'; allowed: string_check" in told[1]
    assert told[1].endswith("did you mean 'numeric'?")
    assert f":{lines + 5}: grading.graders.b.near_scor: unknown key; did you mean 'near_score'?" in told[2]
    assert any("grading.graders.c.url: missing" in line for line in told)
    assert any(f":{lines + 6}: grading.graders.c.retries: found the text 'many'" in line for line in told)
    assert "grading.max_scor: unknown key; did you mean 'max_score'?" in told[5]


def test_a_declaration_as_hosted_jobs_write_it_stands_under_grader(write: Write) -> None:
    asked = '"input": [{"role": "user", "content": "x"}]'
    judge = f'{{"type": "score_model", "name": "j", "model": "m", {asked}, "range": [-1, 5], "pass_threshold": 3}}'
    config = load_config(write(WORKFLOW + f"grading:\n  grader: {judge}\n"))
    assert config.grading is not None
    assert (config.grading.min_score, config.grading.max_score, config.grading.pass_threshold) == (-1, 5, 3)
    assert config.grading.name == "j"
    assert load_config(write(to_yaml(config))) == config
    told = refusal(write(WORKFLOW + "grading:\n  grader: {type: numeric}\n  url: http://x\n"))
    assert "grading.url: unknown key; 'url' belongs under" in told


@pytest.mark.parametrize(
    ("grading", "least", "best", "passes"),
    [
        ("type: multi, graders: {a: {type: numeric}, b: {type: numeric}}, calculate_output: a + b", 0, 2, 1.5),
        ("type: multi, graders: {a: {type: numeric}, b: {type: numeric}}, calculate_output: a - b", -1, 1, 0.5),
        ("type: multi, graders: {a: {type: numeric}}, calculate_output: 2 * a, max_score: 3", 0, 3, 0.75),
        ("type: numeric, pass_threshold: 0.5", 0, 1, 0.5),
        ("name: g, url: 'http://127.0.0.1/grade'", 0, 1, 0.75),
    ],
)
def test_what_a_formula_can_reach_is_the_range(
    write: Write, grading: str, least: float, best: float, passes: float
) -> None:
    found = load_config(write(WORKFLOW + f"grading: {{{grading}}}\n")).grading
    assert found is not None
    assert (found.min_score, found.max_score, found.pass_threshold) == (least, best, passes)

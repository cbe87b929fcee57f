"""What is exported is what was trained: transformers and PEFT load it, and it says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from agentrl.config import LoRAConfig, PolicyConfig
from agentrl.policy.checkpoint import save_policy
from agentrl.policy.lora import adapter_parameters
from agentrl.release.place import ReleasePlace, open_place
from agentrl.release.registry import create_bundle, export_bundle, verify_bundle
from tests.release.registry.making import make_config
from tests.tiny import tiny_policy

TOKENS = torch.arange(5, 20)[None]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=TOKENS).logits
    return found


@pytest.fixture
def here(tmp_path: Path) -> ReleasePlace:
    return open_place(make_config(tmp_path))


@pytest.mark.parametrize("is_lora", [False, True], ids=["whole", "lora"])
def test_an_exported_policy_says_what_the_trained_one_said(here: ReleasePlace, tmp_path: Path, is_lora: bool) -> None:
    options = PolicyConfig(value_hidden_size=16, lora=LoRAConfig() if is_lora else None)
    policy = tiny_policy(config=options)
    base = tmp_path / "untrained"
    save_policy(tiny_policy(config=PolicyConfig(value_hidden_size=16)), base)
    if is_lora:
        with torch.no_grad():
            for name, each in adapter_parameters(policy.model).items():
                if "lora_B" in name:
                    each.normal_(std=0.1)  # an adapter starts as no change at all
    trained = logits(policy.model)
    save_policy(policy, tmp_path / "policy")
    made = create_bundle(here, make_config(tmp_path), str(tmp_path / "policy"))
    assert verify_bundle(here, made.id).problems == ()

    export_bundle(here, made.id, tmp_path / "merged")
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), trained)
    if is_lora:
        export_bundle(here, made.id, tmp_path / "adapter", is_adapter=True)
        assert (
            "bundle"
            in json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
        )
        network = AutoModelForCausalLM.from_pretrained(base)
        assert not torch.allclose(logits(network), trained)
        torch.testing.assert_close(logits(PeftModel.from_pretrained(network, tmp_path / "adapter")), trained)

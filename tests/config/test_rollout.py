from __future__ import annotations

import pytest
from pydantic import ValidationError

from agentrl.config import PricesConfig, RolloutConfig


def test_a_cost_limit_needs_a_price() -> None:
    with pytest.raises(ValidationError, match="found a limit but no price"):
        RolloutConfig(max_cost_usd=1.0)
    prices = PricesConfig(usd_per_tool_call=0.01)
    assert RolloutConfig(max_cost_usd=1.0, prices=prices).prices is prices


def test_every_token_and_call_has_its_price() -> None:
    prices = PricesConfig(
        usd_per_million_prompt_tokens=2.0, usd_per_million_sampled_tokens=8.0, usd_per_tool_call=0.001
    )
    found = prices.cost_usd(prompt_tokens=500_000, sampled_tokens=250_000, tool_calls=3)
    assert found == pytest.approx(1.0 + 2.0 + 0.003)


def test_a_turn_is_part_of_the_context() -> None:
    with pytest.raises(ValidationError, match="a turn is part of the context"):
        RolloutConfig(max_turn_tokens=100, max_context_tokens=50)

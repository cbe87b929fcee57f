"""The kinds of graders, by the name that `grading.type` gives them."""

from __future__ import annotations

from collections.abc import Callable

from agentrl.config import GradingConfig
from agentrl.config.section import did_you_mean
from agentrl.errors import ConfigError
from agentrl.grading.endpoint_grader import EndpointGrader
from agentrl.grading.grader import Grader

GRADERS: dict[str, Callable[[GradingConfig, str], Grader]] = {"endpoint": EndpointGrader}


def build_grader(config: GradingConfig, base_url: str = "") -> Grader:
    """The grader of `grading:`. `base_url` is what `{serve}` stands for.

    Raises:
        ConfigError: an unknown type, or an address or a header that cannot be used.
    """
    if config.type not in GRADERS:
        known = ", ".join(GRADERS)
        raise ConfigError(f"grading.type: found {config.type!r}; allowed: {known}{did_you_mean(config.type, GRADERS)}")
    return GRADERS[config.type](config, base_url)

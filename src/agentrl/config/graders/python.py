"""`type: python`: code that comes with the config, run in a sandbox."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentrl.config.graders.base import GraderSection
from agentrl.config.section import NonEmpty


class PythonConfig(GraderSection):
    """A module with `grade(sample: dict, item: dict) -> float`, run in a sandbox of its own."""

    type: Literal["python"] = Field(description="Kind of grader.")
    source: NonEmpty = Field(description="The whole module, at most 256 kB.")
    image_tag: str | None = Field(default=None, description="Of hosted images; kept and without effect here.")

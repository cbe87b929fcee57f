"""FinQA's tools as functions of this process: `tools.python` of configs/finqa-release.yaml, and the users' own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from examples.finqa.corpus import load_corpus
from examples.finqa.pages import Corpus
from examples.finqa.tools import FinqaTools

DATA = Path("examples/finqa/data")


@cache
def corpus() -> Corpus:
    """The reports and questions, read once."""
    return load_corpus(DATA)


@cache
def finqa_tools() -> FinqaTools:
    """The four tools, their index made once."""
    return FinqaTools(corpus())


async def search(query: str) -> str:
    """Search the reports."""
    return finqa_tools().call("search", {"query": query})


async def list(path: str) -> str:
    """List what a folder of the reports holds."""
    return finqa_tools().call("list", {"path": path})


async def cat(path: str) -> str:
    """Read a page of a report."""
    return finqa_tools().call("cat", {"path": path})


async def calculate(expression: str) -> str:
    """Calculate."""
    return finqa_tools().call("calculate", {"expression": expression})

"""`gpu` tests are skipped without a GPU, `long` ones but by `make test-long`; a busy machine fails no property."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from tests.long_runs import IS_LONG_RUN

hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # of two processes, none is left with a long file at the end
    if not IS_LONG_RUN:
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long, see `make test-long`"))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that says yes, says no, looks, or stops, by chance; what the runs of tests/toy_run.py start from."""
    from tests.engine_fixtures import chance_policy, make_tokenizer  # late: it loads torch

    folder = tmp_path_factory.mktemp("toy") / "baseline"
    tokenizer = make_tokenizer()
    chance_policy(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

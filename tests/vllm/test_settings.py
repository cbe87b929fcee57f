from __future__ import annotations

import re
from pathlib import Path

from tests.vllm.server import ENVIRONMENT, FLAGS, PROCESSED

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
OF_THE_MACHINE = {"--max-num-seqs", "--enforce-eager", "--served-model-name"}


def test_the_scaling_page_names_the_settings_that_the_tests_give_a_real_server() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (command,) = (block for block in blocks if "vllm serve" in block)
    given = {word for word in (*FLAGS.split(), *PROCESSED) if word.startswith("--")} - OF_THE_MACHINE
    assert set(re.findall(r"--[a-z-]+", command)) - {"--port"} == given - {"--no-enable-chunked-prefill"}
    assert "| `--no-enable-chunked-prefill` | on a CPU only" in PAGE.read_text("utf-8")
    for name in re.findall(r"\b(VLLM_\w+)=", command):
        assert ENVIRONMENT[name]

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.release.gates import judge_all
from agentrl.release.gates.digests import evidence_digest, gate_digest
from agentrl.release.gates.shown import shown_verdicts
from tests.release.gates.sessions import both, look, row, rows

EVIDENCE = both(420)
HERE = look(share=50.0, drills=(3.0, 1.0, 2.0))


def as_bytes(evidence: object = EVIDENCE) -> bytes:
    """All verdicts of a canary, as they are kept."""
    found = [*judge_all(rows(), evidence, HERE), *shown_verdicts((), evidence, HERE)]  # type: ignore[arg-type]
    return json.dumps([verdict.to_record() for verdict in found], sort_keys=True, allow_nan=False).encode()


EXPECTED = as_bytes()


@settings(max_examples=3, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_evidence_changes_no_byte(rng: random.Random) -> None:
    shuffled = list(EVIDENCE)
    rng.shuffle(shuffled)
    assert as_bytes(shuffled) == EXPECTED


def test_another_process_with_another_hash_seed_finds_the_same_bytes() -> None:
    program = (
        "import sys; from tests.release.gates.test_determinism import as_bytes; sys.stdout.buffer.write(as_bytes())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    assert found.stdout == EXPECTED


def test_a_digest_tells_one_fact_and_one_key_apart() -> None:
    other = [replace(EVIDENCE[0], seconds=(EVIDENCE[0].seconds or 0.0) + 1e-6), *EVIDENCE[1:]]
    assert evidence_digest(other) != evidence_digest(EVIDENCE)
    assert evidence_digest(EVIDENCE, share_percent=5.0) != evidence_digest(EVIDENCE, share_percent=6.0)
    assert gate_digest(row(margin={"absolute": 0.04})) != gate_digest(row())
    assert gate_digest(row()) == gate_digest(row())


def test_what_is_no_number_has_a_digest_too() -> None:
    broken = [replace(EVIDENCE[0], seconds=float("nan"))]
    assert evidence_digest(broken) == evidence_digest(broken) != evidence_digest(EVIDENCE[:1])

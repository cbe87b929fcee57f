"""How a test that holds for one look is read in a stage that is looked at all the time."""

from __future__ import annotations


def readings(n: int, minimum: int) -> tuple[int, int]:
    """Which reading n sessions of the candidate are enough for, from 1, and at what size it is taken; (0, 0): none.

    A test for one look, taken at every look, would find what it looks for by chance. So it is taken at the minimum
    and then whenever the sessions have doubled, on the sessions up to there alone, however often one looks.
    """
    minimum = max(minimum, 1)
    if n < minimum:
        return 0, 0
    doublings = (n // minimum).bit_length() - 1
    return doublings + 1, minimum << doublings


def share_of_alpha(reading: int) -> float:
    """What a reading may spend of alpha: 1/2, 1/6, 1/12, 1/20, ...; all of them together spend it whole."""
    return 1 / (reading * (reading + 1))

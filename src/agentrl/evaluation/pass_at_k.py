"""pass@k and pass^k of one item, from the samples that there are."""

from __future__ import annotations

from math import comb


def one_of_k(n: int, c: int, k: int) -> float:
    """pass@k, the chance that one of k samples passes, from c passes of n: 1 - C(n-c, k) / C(n, k).

    Unbiased (Chen et al. 2021, arXiv:2107.03374, eq. 1); 1 - (1 - c/n)^k is not.
    """
    return 1 - comb(n - c, k) / comb(n, k)


def all_of_k(n: int, c: int, k: int) -> float:
    """pass^k, the chance that all of k samples pass: C(c, k) / C(n, k), unbiased (tau-bench, arXiv:2406.12045)."""
    return comb(c, k) / comb(n, k)

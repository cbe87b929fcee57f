"""Intervals, sequences, exact tests and sample sizes: pure functions of numbers, with no database, clock or config.

    bounds.py            what all of them return; read it first
    sums.py              an arm as seven sums; differences and ratios of arms, with cluster-robust errors
    sequences.py         bounds that hold at every look
    exact_sequences.py   the same for rare events, exact
    group_sequential.py  bounds that hold at a few looks, registered beforehand
    proportions.py       Newcombe, Clopper-Pearson, McNemar, paired differences: sane at 0 of n
    bootstrap.py         paired and unpaired resampling, seeded
    planning.py          how many sessions a gate needs, and how many days

What cannot be computed (nothing measured, NaN, a zero denominator, no variance) is never an exception and never a bound
that something could pass: it is a `Bounds` with a reason and nothing else. `docs/statistics.md` has the measured error
rates. May import: numpy, scipy.
"""

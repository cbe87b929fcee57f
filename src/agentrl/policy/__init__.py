"""The weights: the policy with its value head, its frozen reference, and how both are stored.

Read `policy.py`, then `reference.py`. May import: floors 0-1.
"""

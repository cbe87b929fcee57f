"""The weights: the policy with its value head, its frozen reference, adapters, and how all are stored.

Read `policy.py`, then `reference.py` and `lora.py`. May import: floors 0-1.
"""

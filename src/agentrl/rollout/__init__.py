"""Episodes: the turn loop, its limits, and what training sees of it.

Read `turns.py` (one episode), `engine.py` (many of them), then `outage.py` and `trajectory.py`. May import: inference
and lower floors.
"""

"""Episodes: the turn loop, its limits, and what training sees of it.

Read `engine.py`, then `trajectory.py`. May import: inference and lower floors.
"""

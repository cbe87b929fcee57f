"""How fast the index behind `agentrl ui` answers: `python -m benchmarks.ui --json`.

Read `made_runs.py` (what is asked about), then `__main__.py` (the questions and how they are timed).
"""

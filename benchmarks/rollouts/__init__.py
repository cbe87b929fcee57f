"""How fast rollouts are, beside trl, transformers and vLLM: `python -m benchmarks.rollouts --json`.

Read `task.py` (what every system is given), then `__main__.py` (the parts of the run and their figures).
"""

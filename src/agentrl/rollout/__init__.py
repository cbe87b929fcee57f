"""Episodes: the turn loop, its limits, and what training sees of it.

Read `turns.py` (one episode), `engine.py` (many of them), then `outage.py` and `trajectory.py`. Who takes the turns is
the seam in `speaker.py`: a policy of ours (`sampled_turns.py`), or a model behind an API (`api_turns.py`). May import:
inference and lower floors.
"""

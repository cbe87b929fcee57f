"""Where tokens come from. Read `engine.py` (the seam), then `in_process.py` or `vllm.py`.

May import: floors 0-2. Torch only in the in-process engine (`in_process.py`, `sampling.py`, `slots.py`).
"""

"""Where tokens come from. Read `engine.py` (the seam), then `in_process.py`.

May import: floors 0-2. Torch only in `in_process.py`.
"""

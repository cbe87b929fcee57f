"""What a policy costs and is worth, whether it may grow, and what is missing before it can be told.

Read `loaded.py` (a week's money), then `frame.py` (four axes), `phases.py` and `second_workflow.py`.
May import: floors 0-5, `release/store`, `release/review`.
"""

"""What last week was like: reliability, worst sessions, overrides, trends, incidents.

Read `weeks.py` (a week's figures), then `review.py` (all of it) and `trend.py` (score flat while cost rises).
May import: floors 0-5, `release/store`.
"""

"""What a page shows of a trace: records made for templates, from traces of any age, whole or damaged.

Read `views.py` first, then `episode.py`, which fills them. `loose.py` takes values as they are found, `texts.py` makes
them readable, `waterfall.py`, `tokens.py` and `alignment.py` draw, one each. May import: floors 0-6.
"""

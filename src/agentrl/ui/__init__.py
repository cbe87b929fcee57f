"""`agentrl ui`: runs, curves and episodes of a directory of runs, as local web pages.

Read `app.py` first; `index/` answers which episodes there are, `pages/` draws. May import: floors 0-6.
"""

"""`agentrl ui`: runs, curves and episodes of a directory of runs, as local web pages.

Read `app.py` first. `pages/` has a file for each page, `templates/` and `static/` what they are made of; `plots.py`,
`figures.py` and `charts.py` are what plots show, from keys to numbers to SVG; `index/` answers which episodes there
are, `traces/` what one of them says; `guard.py` is who may ask. May import: floors 0-6.
"""

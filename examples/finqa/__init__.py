"""The FinQA agent task: find the right report page with tools, compute, answer with a number.

Read `corpus.py` for the data, then `tools.py` (what the agent may do), `grader.py` (what counts as right) and
`server.py` (both over HTTP). `generate.py` writes the synthetic reports that the shipped run trains on.
"""

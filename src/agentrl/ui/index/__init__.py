"""Which runs and episodes there are: a columnar index beside the runs, built while they write.

Read `records.py` first. May import: floors 0-6.
"""

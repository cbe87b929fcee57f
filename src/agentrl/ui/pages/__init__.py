"""Pages: `runs.py` the list, one run, several compared; `episodes.py` what was said and done."""

"""A rehearsal of a release: a trained FinQA policy is promoted, three bad ones are stopped, with real processes.

Read `rehearsal.py` (the story), then `users.py` (who asks), `model_server.py` (who answers) and `policies.py` (with
which weights). `python -m examples.release.rehearsal --json` plays it in about a minute.
"""

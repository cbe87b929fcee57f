"""A release's way from draft to all users and back: states, guards, the audit log, approvals, halts, incidents.

Read `states.py` (the map), then `transition.py` (the one way along it). Every change is first a line of the audit log
(`audit_log.py`), on disk, and only then rows of the database (`ledger.py`): the log is the truth, and what a crash
left between the two is made up for by whoever comes next. `controller.py` is the loop that looks, judges and acts.

May import: floors 0-5, and of release/ all but brief/ and review/.
"""

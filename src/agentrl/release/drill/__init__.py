"""Rollback proven with real processes: gateways, a candidate that hangs, users' streams open on it, and a kill.

Read `drill.py` first (the sequence), then `record.py` (what is measured), `stage.py` (where it takes place),
`users.py` and `stub_server.py` (both ends of the streams) and `processes.py`.

A drill has its own folder and its own tables, beside the release's and never in them: what it proves is that this
config's gateway, on this machine and this database, gives a candidate up in time. Gateways are started as commands.
May import: floors 0-5, and of release/ the store, the lifecycle and the registry.
"""

"""From a trained policy to users and back: bundles, gates, shadow, canary, rollback, briefs.

Read `records.py` first (the words), then `routing.py` (what the gateway serves) and `evidence.py` (what gates read).

registry/    what is released: content-addressed bundles
statistics/  intervals and sequences; pure functions of numbers
gates/       rows of the config -> verdicts; pure functions of evidence
lifecycle/   states, audit log, lease, controller, incidents
drill/       rollback proven with real processes
brief/       the Reliability Brief
review/      the weekly review, the money
store/       the database behind all of them

May import: floors 0-5. SQLAlchemy stays here. `pip install 'agentrl[release]'` brings what it needs.
"""

"""Hosted routes on this machine: graders/run, graders/validate and tool/run, for notebooks written for them.

Read `app.py`. What a request may not make the server do is in `foreign.py`.
May import: floors 0-2. FastAPI and uvicorn come with `pip install 'agentrl[serve]'`.
"""

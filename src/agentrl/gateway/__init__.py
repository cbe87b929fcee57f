"""The OpenAI-compatible proxy that users talk to, in front of a baseline and a candidate.

May import: floors 0-6. FastAPI, uvicorn and SQLAlchemy come with `pip install 'agentrl[release]'`.
"""

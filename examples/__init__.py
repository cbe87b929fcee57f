"""Worked examples, each a folder; they import agentrl and are never imported by it."""

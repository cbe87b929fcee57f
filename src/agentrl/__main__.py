"""`python -m agentrl` is `agentrl`."""

from __future__ import annotations

from agentrl.cli.main import main

if __name__ == "__main__":
    main()

"""Whether this is a run with all cases of the longest tests."""

from __future__ import annotations

import os

IS_LONG_RUN = bool(os.environ.get("AGENTRL_LONG_TESTS"))
"""Set by `make test-long`."""

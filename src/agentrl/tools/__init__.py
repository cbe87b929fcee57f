"""What the policy may call: tools behind HTTP endpoints, and the servers that a run starts for itself.

Read `endpoint_tool.py` (one call), then `toolbox.py` (the calls of a turn). `serve.py` starts servers, `preflight.py`
finds broken endpoints before training. May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.tools.preflight import check_endpoints
from agentrl.tools.serve import serving
from agentrl.tools.toolbox import Tool, Toolbox

__all__ = ["EndpointTool", "Tool", "Toolbox", "check_endpoints", "serving"]

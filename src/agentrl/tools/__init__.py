"""What the policy may call: endpoints, MCP servers, Python functions; and the servers that a run starts for itself.

Read `endpoint_tool.py` (one call), then `toolbox.py` (the calls of a turn). `mcp_server.py` and `python_tool.py` are
the other kinds of tool; the policy cannot tell them apart. `tool_policy.py` says which calls are made at all,
`approval.py` asks people. `serve.py` starts servers, `preflight.py` finds broken
endpoints before training, `checks/` what is wrong with those that answer. May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.tools.mcp_server import MCPServer, MCPTool
from agentrl.tools.preflight import check_endpoints
from agentrl.tools.python_tool import PythonTool
from agentrl.tools.serve import serving
from agentrl.tools.toolbox import Tool, Toolbox

__all__ = [
    "EndpointTool",
    "MCPServer",
    "MCPTool",
    "PythonTool",
    "Tool",
    "Toolbox",
    "check_endpoints",
    "serving",
]

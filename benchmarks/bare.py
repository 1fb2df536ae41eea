"""The measure: a FastMCP server with one trivial tool, over stdio or, given a port, over HTTP as the gateway serves."""

import sys

import uvicorn
from fastmcp import FastMCP

server = FastMCP("bare")


@server.tool
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


if __name__ == "__main__":
    if len(sys.argv) > 1:
        app = server.http_app(stateless_http=True, host_origin_protection=True)
        uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, server_header=False, ws="none")
    else:
        server.run(show_banner=False)

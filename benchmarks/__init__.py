"""What `make bench` runs. Every figure of the gateway stands beside a bare FastMCP server's of the same run."""

"""HOW an agent asks: configuration, the portable core, tools, server and commands."""

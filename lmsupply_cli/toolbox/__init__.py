"""Tools that are run here: Python functions, and those of MCP servers."""

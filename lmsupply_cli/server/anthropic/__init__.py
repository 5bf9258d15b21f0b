"""The API of Anthropic."""

from lmsupply_cli.server.anthropic.messages import ROUTES

__all__ = ["ROUTES"]

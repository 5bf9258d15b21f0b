"""The API of Ollama."""

from lmsupply_cli.server.ollama import chat, generate, models, unsupported

ROUTES = [*models.ROUTES, *chat.ROUTES, *generate.ROUTES, *unsupported.ROUTES]

"""OpenAI's API."""

from lmsupply_cli.server.openai import chat, completions, models, responses

ROUTES = [*models.ROUTES, *chat.ROUTES, *completions.ROUTES, *responses.ROUTES]

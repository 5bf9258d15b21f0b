"""The HTTP server: OpenAI's, Anthropic's and Ollama's APIs on the models of `serving`."""

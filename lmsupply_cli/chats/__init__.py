"""Chats: a session with a model, and those that are saved."""

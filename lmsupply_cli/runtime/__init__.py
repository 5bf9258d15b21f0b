"""A loaded model that generates, and a chat with it."""

"""Repositories of the Hugging Face Hub: what they hold, which folder suits, and fetching it."""

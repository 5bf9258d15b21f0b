"""From messages to the exact text, and to token ids in which no user can write a control token."""

"""The chat in a terminal: prompt_toolkit lives here and nowhere else."""

"""The chat on a terminal: prompt_toolkit lives here and nowhere else."""

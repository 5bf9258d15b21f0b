"""What a person sees: rich lives here and nowhere else."""

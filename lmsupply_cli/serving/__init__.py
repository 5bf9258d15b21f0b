"""Models shared by threads and programs."""

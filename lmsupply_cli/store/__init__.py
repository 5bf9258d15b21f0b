"""Models on this machine: what is installed, and where a ref leads."""

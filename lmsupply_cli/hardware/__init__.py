"""What this machine is. Probes never raise: what cannot be found out is None."""

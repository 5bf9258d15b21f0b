"""What a model needs in memory: read from its files, estimated, and fitted to what is free."""

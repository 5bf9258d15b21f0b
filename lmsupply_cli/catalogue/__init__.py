"""The models that lmsupply knows by name: data in models.toml, and how they are looked up."""

"""The settings: one table, and the layers that give each its value and its source."""

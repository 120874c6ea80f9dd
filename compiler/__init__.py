"""The driver: what happens to a model, in order."""

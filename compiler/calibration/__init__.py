"""Drives samples through the graph and into the statistics."""

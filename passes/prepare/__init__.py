"""Passes that keep the float function and bring the graph into canonical form."""

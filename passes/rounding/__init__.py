"""Choosing the integers of a weight and repairing its bias."""

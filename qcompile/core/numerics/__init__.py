"""Rounding, scales and saturation: the one place where integer arithmetic is stated."""

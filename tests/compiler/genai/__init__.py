"""Mirrors compiler/genai."""

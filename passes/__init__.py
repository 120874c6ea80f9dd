"""Graph passes, one idea a file."""

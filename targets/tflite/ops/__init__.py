"""One function an op, grouped by kind; table.py lists them."""

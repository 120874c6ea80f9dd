"""One function an operator, grouped by kind; ``reader/table.py`` lists them."""

"""Measured costs of operators, a file a target; ``targets.cost_table`` reads them."""

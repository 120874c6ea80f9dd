"""How the range of an activation is chosen: one method a file."""

"""One report model; the table and the JSON are views of it."""

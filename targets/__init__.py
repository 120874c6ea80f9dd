"""What a runtime and a chip can do, and how to write, run and prove a model for them."""

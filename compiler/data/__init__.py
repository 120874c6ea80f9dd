"""Where samples come from, and what happens to them before the model sees them."""

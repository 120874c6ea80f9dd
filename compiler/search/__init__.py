"""Better plans than the first one: every step is tried, scored by the outputs, kept if it pays."""

"""What keeps the float function and makes a graph easier to quantize."""

"""Native programs that time models on devices without Python, and what drives them."""

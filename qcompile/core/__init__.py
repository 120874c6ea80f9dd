"""The vocabulary every room shares; it imports none of them."""

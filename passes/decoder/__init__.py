"""What a decoder of a language model is made of, read off its graph; one part a file."""

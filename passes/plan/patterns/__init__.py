"""Pattern knowledge: parts of a network that quantize badly, each with a name and a reason."""

"""Two builds, or a float model and a build, held against each other."""

"""Integer proof, accuracy and latency of a finished artefact."""

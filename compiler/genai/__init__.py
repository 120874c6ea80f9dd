"""Folders that onnxruntime-genai runs as they are: artefact, tokenizer, genai_config.json."""

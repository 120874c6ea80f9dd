"""Target descriptions: one TOML file a target, no code."""

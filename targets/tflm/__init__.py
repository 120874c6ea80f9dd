"""TFLite Micro: its interpreter, the arena a model needs, and the model as a C array."""

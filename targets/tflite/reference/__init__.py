"""TFLite's integer arithmetic in numpy: what a finished model computes, without the runtime."""

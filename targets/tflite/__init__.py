"""The TFLite back end: write, read, run and prove; TensorFlow takes no part."""

"""TFLite files written straight from a trace, without TensorFlow."""

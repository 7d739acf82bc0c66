"""The client of a device: trains, pushes and answers with onnxruntime alone."""

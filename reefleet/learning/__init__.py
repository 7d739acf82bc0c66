"""The algorithms as pure functions over tensors: no network, no files."""

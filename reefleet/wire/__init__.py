"""What travels and what is stored: packed tensors, codecs, manifests, message conversion."""

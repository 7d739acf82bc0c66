"""gRPC between coordinator and client: bounds, identities, channels, and errors over the wire."""

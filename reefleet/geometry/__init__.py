"""The shapes and costs of each backbone and of the exits on top, without any array library."""

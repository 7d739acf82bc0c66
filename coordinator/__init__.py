"""The coordinator: enrolls devices, plans sub-models, runs rounds, keeps what it acknowledged."""

"""The demo: a coordinator and five boards as real processes on this machine."""

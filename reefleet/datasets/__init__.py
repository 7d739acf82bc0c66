"""Data packs as arrays, and the ways to split them over devices."""

"""Boards: what they are, what they say of themselves, what work costs on them."""

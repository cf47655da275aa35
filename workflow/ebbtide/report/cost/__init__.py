"""How cells were made, and what they cost."""

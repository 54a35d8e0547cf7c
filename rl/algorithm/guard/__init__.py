"""Signs of a collapse, and what follows from them."""

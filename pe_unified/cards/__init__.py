"""Model cards: where a model comes from, what it was tested on, and what is not known."""

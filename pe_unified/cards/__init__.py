"""What goes with a model: where it comes from, what it was tested on, and what nobody knows."""

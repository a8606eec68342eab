"""Reading the public sets, one module each, and what they share."""

"""What readers decide about reports, and what becomes of it."""

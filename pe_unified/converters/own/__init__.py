"""Studies of one's own in any folders: what is there, belongs together, and is known of it."""

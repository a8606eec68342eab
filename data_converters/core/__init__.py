"""What every converter shares: the units of work, how they run, and what they leave on disk."""

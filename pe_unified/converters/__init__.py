"""The public sets into one layout on disk."""

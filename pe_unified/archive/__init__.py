"""Connects an image archive to the analysis: studies arrive, are queued, and results go back."""

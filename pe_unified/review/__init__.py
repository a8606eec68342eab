"""Readers' decisions on reports: stored, compared, exported."""

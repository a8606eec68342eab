"""Converts patient by patient: plans, workers, output."""

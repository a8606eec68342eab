"""Aggregators, which combine the steps of an exam."""

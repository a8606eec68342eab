"""Aggregators, which let the steps of an exam see each other."""

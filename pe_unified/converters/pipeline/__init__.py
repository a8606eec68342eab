"""Converting patient by patient: plans, workers, and what is written."""

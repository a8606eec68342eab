"""One head per task, on the levels of a backbone."""

"""From a CT study to findings."""

"""Between the archive and the analysis: studies come in, a queue keeps them, results go back."""

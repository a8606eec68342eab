"""Your own studies in any folders: finds studies, masks and labels, and matches them."""

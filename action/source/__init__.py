"""Say what of a repository belongs in an image, and read no more than that."""

"""Make a run image: an environment and one layer, from which the same bytes follow everywhere."""

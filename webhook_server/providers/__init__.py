"""Places that lend instances."""

"""Delete old images from the registry, as far as the server's whole list allows."""

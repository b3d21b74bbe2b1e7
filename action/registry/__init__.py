"""Talk to container registries: the Action's own client, on the standard library."""

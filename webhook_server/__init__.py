"""The control plane: routes, the loop, providers, stores."""

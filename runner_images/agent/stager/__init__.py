"""The hubs' own clients, in a process and an environment of their own."""

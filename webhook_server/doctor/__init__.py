"""Look for what keeps the server from working, and say what to do about it."""

"""The outside world as small programs, for tests and the demo."""

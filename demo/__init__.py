"""The whole way of one push, on this machine, for people and for the flow tests."""

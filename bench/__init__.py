"""Measurements beside what they are compared with."""

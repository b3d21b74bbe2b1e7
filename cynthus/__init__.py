"""Cynthus: what crosses between its programs, with the command line."""

"""Resolve what is asked for into exact packages, and fetch them from an index."""

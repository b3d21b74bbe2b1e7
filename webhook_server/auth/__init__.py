"""Proofs: who sent this, and what may they do."""

"""What a run is, what happens to it next: pure."""

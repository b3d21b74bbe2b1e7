"""Where data comes from: each source binds an entry of a spec to what does not change."""

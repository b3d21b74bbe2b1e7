"""What the live check of Google Cloud is made of: docs/gcp-live-check.md."""

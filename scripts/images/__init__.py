"""Make the runner images: by hand, for `make images`, and in .github/workflows/images.yml."""

"""Build, pull and push images with this machine's Docker engine."""

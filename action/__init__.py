"""The program that runs on GitHub's runner."""

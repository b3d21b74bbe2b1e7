"""The program on the instance."""

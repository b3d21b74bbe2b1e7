"""The program on the instance."""

VERSION = "0.1.0"  # told at enrolment; the same as the distribution's

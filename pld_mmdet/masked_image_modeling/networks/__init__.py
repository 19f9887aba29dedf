"""Networks of this family."""

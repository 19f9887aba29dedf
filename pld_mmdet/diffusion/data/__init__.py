"""Data sets and views of this family."""

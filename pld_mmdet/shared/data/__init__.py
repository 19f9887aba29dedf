"""Data sets that several families read."""

"""Candidates and classifiers that come from names, not from boxes."""

"""Scenes that are drawn, not photographed."""

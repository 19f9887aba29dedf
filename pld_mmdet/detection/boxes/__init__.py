"""Boxes: between views, and in pairs."""

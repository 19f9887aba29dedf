"""Noise: its levels, its schedules, its steps."""

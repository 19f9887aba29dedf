"""What a run draws, and with which random numbers."""

"""Audio: pseudo-labels for speech representations. Importing registers it."""

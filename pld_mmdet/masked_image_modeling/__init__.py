"""Masked image modelling: distilling masked autoencoders. Importing registers it."""

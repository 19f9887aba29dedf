"""Diffusion: few-step students of diffusion teachers. Importing registers it."""

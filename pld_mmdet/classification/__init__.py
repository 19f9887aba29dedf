"""Image classification: distillation and pseudo-labels. Importing registers it."""

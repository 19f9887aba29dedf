"""Classification: distillation and pseudo-labels for image classifiers. Importing registers it."""

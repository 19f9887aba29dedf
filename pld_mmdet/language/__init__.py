"""Language models: distillation and pseudo-labels for text. Importing registers it."""

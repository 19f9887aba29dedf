"""Dataset distillation: small data sets from large ones. Importing registers it."""

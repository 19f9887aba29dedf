"""Dataset distillation: small data sets learnt from large ones. Importing registers it."""

"""Semantic segmentation: self-training and distillation. Importing registers it."""

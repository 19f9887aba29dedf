# ShrinkMatch, and what it is without its parts, on Fashion-MNIST with few labels.
_base_ = "../_base_/contests/few_labels_images.py"

model = dict(threshold=0.95, use="shrink")

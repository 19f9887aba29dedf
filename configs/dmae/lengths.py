# DMAE by the paper's equation: features are compared with their lengths, not as
# directions as in the official code.
_base_ = ["toy.py"]

model = dict(normalise=False)

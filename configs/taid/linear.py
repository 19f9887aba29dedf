# TAID without its adaptive term.
_base_ = "toy.py"
model = dict(adaptive=False)

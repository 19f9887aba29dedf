# Pseudo-labels of the client's own model.
_base_ = ["./toy.py"]

model = dict(experts="local")

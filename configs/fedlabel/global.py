# Pseudo-labels of the global model that the round began with.
_base_ = ["./toy.py"]

model = dict(experts="global")

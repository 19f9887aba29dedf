# P2OT: the curriculum of mass without the similarity of samples.
_base_ = ["./toy.py"]

model = dict(lambda0=0.0)

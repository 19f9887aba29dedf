# SLA+AG: the joint head's answer over all four turns.
_base_ = "./toy.py"

model = dict(predict_on="aggregated")

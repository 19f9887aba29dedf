# The teacher that KD-Prune's student learnt from.
_base_ = "./toy.py"

model = dict(predict_on="teacher")

# The teacher's own accuracy.
_base_ = "toy.py"
model = dict(predict_on="finetuned")
train_cfg = dict(stages=[{{_base_.mlm}}, {{_base_.teacher}}])

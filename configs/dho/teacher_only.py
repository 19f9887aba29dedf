# One head that learns from the teacher alone: plain knowledge distillation.
_base_ = "./single_head.py"
model = dict(w1=0.0)

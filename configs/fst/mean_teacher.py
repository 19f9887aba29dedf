# The same learner without a look ahead: depth 0 is plain self-training.
_base_ = "./toy.py"

model = dict(depth=0)

# Plain self-training with the authors' decay.
_base_ = "./toy.py"

model = dict(depth=0)

# The teacher of a toy run, sampled in 40 steps: for tools/test.py with a checkpoint of
# configs/dmd2/toy.py.
_base_ = ["toy.py"]

model = dict(predict_on="teacher")

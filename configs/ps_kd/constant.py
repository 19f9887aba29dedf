# The past self with the last epoch's weight all the time: not progressive.
_base_ = "./toy.py"
model = dict(schedule="constant")

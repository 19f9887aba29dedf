# The plain teacher of toy.py's row `plain`.
_base_ = "./toy.py"

model = dict(predict_on="teacher", assisted=False)

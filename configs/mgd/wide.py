# toy.py's run, answered by its wide teacher.
_base_ = "./toy.py"

model = dict(predict_on="wide")

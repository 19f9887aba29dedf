# toy.py's run, answered by its deep teacher.
_base_ = "./toy.py"

model = dict(predict_on="deep")

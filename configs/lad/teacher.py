# toy.py's run, answered by its teacher, which reads the true labels: the gate.
_base_ = "./toy.py"

model = dict(predict_on="teacher")

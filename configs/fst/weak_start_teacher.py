# weak_start.py's run, answered by its teacher.
_base_ = "./weak_start.py"

model = dict(learner=dict(predict_on="teacher"))

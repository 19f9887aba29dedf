# released.py's run, answered by its teacher.
_base_ = "./released.py"

model = dict(learner=dict(predict_on="teacher"))

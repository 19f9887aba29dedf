# The same run, answered by its teacher.
_base_ = "./clear_to_fog.py"

model = dict(learner=dict(predict_on="teacher"))

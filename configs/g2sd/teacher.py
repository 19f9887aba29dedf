# The teachers' stages of toy.py alone; the fine-tuned teacher answers.
_base_ = ["./toy.py"]

model = dict(predict_on="tutor")
train_cfg = dict(stages=_base_.train_cfg.stages[:2])

# The teachers' stages of toy.py alone, then the masked autoencoder fine-tuned: a
# network of the student's size that needed no distillation.
_base_ = ["./toy.py"]

model = dict(predict_on="relation_teacher")
tuned = dict(_base_.finetune, name="relation_finetune")
train_cfg = dict(stages=[*_base_.train_cfg.stages[:2], tuned])

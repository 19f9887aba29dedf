# The student's stages of toy.py alone; the teachers come from a checkpoint of
# teachers.py (load_from), as in the rows of toy.py.
_base_ = ["./toy.py"]
from pld_mmdet.recipes import stage

train_cfg = dict(stages=[_base_.distill, stage("export", 0), _base_.finetune])

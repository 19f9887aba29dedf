# The rival of toy.py: a bag is as positive as its most positive instance; four bags a
# step, so as many images as there.
_base_ = "./toy.py"
from pld_mmdet.recipes import stage

train_dataloader = dict(batch_size=4, dataset=dict(whole=True))
train_cfg = dict(stages=[stage("max_pooling", 497)])

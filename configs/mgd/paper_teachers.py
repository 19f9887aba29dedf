# The teachers of paper.py: cross pseudo supervision of the wide and the deep network,
# as long as the student's run. The authors train each against another copy of itself.
_base_ = "./paper.py"
from pld_mmdet.recipes import stage

model = dict(predict_on="deep")
train_cfg = dict(stages=[stage("teachers", 39338)])

# Diagnosis, not source-free: the best recipe with true boxes in the place of the
# teacher's confident ones. Rows of ingredients.py set `kind`.
_base_ = "./foggy_streets.py"
from pld_mmdet.recipes import class_names

model = dict(
    type="pld_mmdet.CeilingMeanTeacher",
    kind="all",
    truth=dict(
        ann_file=_base_.data_root + "annotations/train_foggy_beta_0.02.json",
        classes=class_names.CITYSCAPES,
    ),
)

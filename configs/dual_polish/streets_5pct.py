# Dual polishing on the embedded data: Soft Teacher's setting there, with polishers a
# quarter as wide and a fraction of the synthesised pairs (authors: 150 and 50 + 50 an
# object): 20 jitters an object already cost a quarter of an iteration on a CPU. An
# image has eight objects, so a batch still has over a hundred pairs of each kind.
_base_ = "../soft_teacher/streets_5pct.py"
from pld_mmdet.recipes.detection import polishing

model = dict(
    _delete_=True,
    type="pld_mmdet.DualPolishTeacher",
    detector=_base_.detector,
    min_score=0.5,
    rpn_threshold=0.5,
    cls_threshold=0.5,
    polish_threshold=0.9,
    context_fraction=0.06,
    box_jitters=(8, 0.2),
    category_jitters=((5, 0.06), (5, 0.2)),
    category_min_iou=0.7,
    hidden_channels=256,
    unsup_weight=1.0,  # 1:1, as Soft Teacher's row and the release on VOC
    predict_on="teacher",
)
# the detector's teacher is frozen at the first drop of the learning rate
custom_hooks = polishing(_base_.custom_hooks, 0.99, _base_.first_drop)

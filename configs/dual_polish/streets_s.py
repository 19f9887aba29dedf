# Dual polishing, design S (docs/lab/dual_polish.md): Soft Teacher's setting there, with
# polishers half as wide and a fifth of the published pairs. Not run: it was to be only
# if Soft Teacher gains there, and it does not. The command:
#   python tools/reproduce.py configs/soft_teacher/streets_s.py --seeds 0 1 2 3 4 \
#       --rows start soft_teacher twice dual_polish \
#       --result docs/results/streets_s_polish.json --overwrite
_base_ = "../soft_teacher/streets_s.py"
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
    box_jitters=(30, 0.2),
    category_jitters=((10, 0.06), (10, 0.2)),
    category_min_iou=0.7,
    hidden_channels=512,
    unsup_weight=3.0,
    predict_on="teacher",
)
# the detector's teacher is frozen at the first drop of the learning rate
custom_hooks = polishing(_base_.custom_hooks, 0.999, _base_.first_drop)

# LPLD's own setting (no AdaBN, no erased rectangles) without the mined boxes.
_base_ = "../lpld/streets_frozen_norm.py"

model = dict(
    _delete_=True,
    type="pld_mmdet.MeanTeacherSFOD",
    detector=_base_.model.detector,
    hpl_threshold=0.7,
    predict_on="teacher",
)

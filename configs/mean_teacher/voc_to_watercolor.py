# Plain Mean Teacher: LPLD's baseline, the same recipe without the mined boxes.
_base_ = "../lpld/voc_to_watercolor.py"

model = dict(
    _delete_=True,
    type="pld_mmdet.MeanTeacherSFOD",
    detector=_base_.model.detector,
    hpl_threshold=0.7,
    predict_on="teacher",
)

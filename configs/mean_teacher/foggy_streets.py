# Plain Mean Teacher on the embedded data: LPLD's recipe without the mined boxes.
_base_ = "../lpld/foggy_streets.py"

model = dict(
    _delete_=True,
    type="pld_mmdet.MeanTeacherSFOD",
    detector=_base_.model.detector,
    hpl_threshold=0.7,
    predict_on="teacher",
)

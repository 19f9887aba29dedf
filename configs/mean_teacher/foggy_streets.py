# Plain Mean Teacher on the embedded data: LPLD's recipe without the mined boxes.
_base_ = "../lpld/foggy_streets.py"
from pld_mmdet.recipes.detection import mean_teacher

model = mean_teacher(_base_.model.detector)

# The source recipe with a one-stage detector (1.2 M parameters): backbone, neck and
# anchors of foggy_streets.py, a dense head with focal loss instead of proposals.
_base_ = "./foggy_streets.py"
from pld_mmdet.recipes.detectors import retinanet

model = dict(_delete_=True, **retinanet(_base_.model))

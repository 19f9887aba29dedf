# That detector, evaluated in fog: what adaptation starts from.
_base_ = "./foggy_streets_retinanet.py"
from pld_mmdet.recipes.streets import in_fog

val_dataloader, test_dataloader, *_scores = in_fog(_base_.data_root)
val_evaluator, test_evaluator = _scores

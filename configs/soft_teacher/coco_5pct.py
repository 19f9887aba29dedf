# Soft Teacher with 5 % of COCO's labels; all else as with 10 %.
_base_ = "./coco_10pct.py"
from pld_mmdet.recipes.detection import share_of_coco

fold = "{{$FOLD:1}}"
labelled, unlabelled, train_dataloader = share_of_coco(_base_, fold, 5)

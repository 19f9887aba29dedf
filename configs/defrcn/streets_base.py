# DeFRCN's decoupling on the small detector: base training on FoggyStreets' clear scenes
# with 6 of the 8 classes. Recipe of the source detector, shorter. DeFRCN's 0.75 towards
# the backbone is 1 here: AdamW divides a constant factor out.
_base_ = "../source/foggy_streets.py"
from pld_mmdet.recipes.detection import train_set
from pld_mmdet.recipes.few_shot import listed
from pld_mmdet.recipes.streets import warmed_cosine

how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && "
        "python tools/make_fewshot.py streets --shots 1 3 5"
    )
)
stem = "annotations/fewshot/streets"
classes = ("person", "rider", "car", "truck", "bus", "bicycle")
model = dict(
    rpn_head=dict(type="pld_mmdet.DecoupledRPNHead", gradient_scale=0.0),
    roi_head=dict(
        bbox_roi_extractor=dict(
            type="pld_mmdet.DecoupledRoIExtractor", gradient_scale=1.0
        ),
        bbox_head=dict(num_classes=6),
    ),
)
train_dataloader = train_set(**listed(stem + "_base.json", classes))
# Looked at once, at the end: there is no choice to make.
val_dataloader = test_dataloader = dict(
    dataset=listed(stem + "_test_base.json", classes)
)
val_evaluator = test_evaluator = dict(
    ann_file=_base_.data_root + stem + "_test_base.json"
)
train_cfg = dict(max_iters=600, val_interval=600)
param_scheduler = warmed_cosine(600)

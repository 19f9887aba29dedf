# DeFRCN's decoupling on the small detector: base training on FoggyStreets' clear scenes
# with 6 of the 8 classes. Recipe of the source detector, shorter. DeFRCN's 0.75 towards
# the backbone is 1 here: AdamW divides a constant factor out.
_base_ = "../source/foggy_streets.py"
from pld_mmdet.recipes import cosine, warm_up

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
train_dataloader = dict(
    dataset=dict(
        dataset=dict(ann_file=stem + "_base.json", metainfo=dict(classes=classes))
    )
)
# Looked at once, at the end: there is no choice to make.
val_dataloader = test_dataloader = dict(
    dataset=dict(ann_file=stem + "_test_base.json", metainfo=dict(classes=classes))
)
val_evaluator = test_evaluator = dict(
    ann_file=_base_.data_root + stem + "_test_base.json"
)
train_cfg = dict(max_iters=600, val_interval=600)
param_scheduler = [warm_up(0.01, 100), cosine(begin=100, end=600, T_max=500, eta_min=0)]

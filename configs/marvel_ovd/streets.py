# MarvelOVD on FoggyStreets' clear scenes: 5 base and 3 novel classes, *simulated* CLIP
# errors (three of four candidates are noise), text vectors orthonormal. No CLIP needed.
# All rows start from one detector of the base boxes (streets_start.py), in place of
# ImageNet's weights. Length and rate were not tuned.
_base_ = ["../source/foggy_streets.py", "../_base_/experiments/streets_ovd.py"]
from pld_mmdet.recipes.detection import packing
from pld_mmdet.recipes.streets import warmed_cosine

how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets && "
        "python tools/make_ov_coco.py streets --seed 0"
    ),
    checkpoint="python tools/train.py configs/marvel_ovd/streets_start.py",
)
load_from = "work_dirs/marvel_ovd/streets_start/last.pth"
base = ("person", "rider", "car", "truck", "bicycle")
novel = ("bus", "train", "motorcycle")
classes = base + novel
metainfo = dict(classes=classes)
detector = _base_.model
detector.roi_head.bbox_head.cls_predictor_cfg = dict(
    type="pld_mmdet.TextEmbeddingClassifier",
    path="orthonormal",
    names=classes,
    emb_dim=64,
)
model = dict(
    _delete_=True,
    type="pld_mmdet.MarvelOVD",
    detector=detector,
    novel=[classes.index(name) for name in novel],
    burn_in=60,  # of 200 iterations; 500 of 90000 would be 1
)

pack = packing("pld_mmdet.PackCandidates")
strong = [
    dict(type="pld_mmdet.RandomColorJitter", hue=0.0),
    dict(type="pld_mmdet.RandomGaussianBlur", sigma=(0.1, 1.0), prob=0.5),
    dict(
        type="pld_mmdet.RandomEraseNoise", area=(0.02, 0.1), ratio=(0.3, 3.3), prob=0.5
    ),
    pack,
]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="pld_mmdet.LoadBoxExtras"),
    dict(type="RandomChoiceResize", scales=[(384, 192), (448, 224)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="MultiBranch", branch_field=["weak", "strong"], weak=[pack], strong=strong
    ),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        dataset=dict(
            type="pld_mmdet.CandidateCocoDataset",
            ann_file="annotations/ov/train_candidates_seed0.json",
            metainfo=metainfo,
            pipeline=train_pipeline,
        )
    ),
)
val_dataloader = dict(
    dataset=dict(ann_file="annotations/ov/val.json", metainfo=metainfo)
)
test_dataloader = dict(
    dataset=dict(ann_file="annotations/ov/test.json", metainfo=metainfo)
)
val_evaluator, test_evaluator = (
    dict(
        type="pld_mmdet.GroupAP50Metric",
        ann_file=f"{_base_.data_root}annotations/ov/{part}.json",
        groups=dict(novel=list(novel), base=list(base)),
        paper_metric="coco/AP50",
    )
    for part in ("val", "test")
)
train_cfg = dict(max_iters=200, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = warmed_cosine(200, rise=20)
auto_scale_lr = dict(base_batch_size=2)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.PseudoBoxHook", interval=20),
    dict(
        type="pld_mmdet.PseudoTruthHook",  # measures; nothing learns from it
        ann_file=_base_.data_root + "annotations/ov/train_hidden.json",
        groups=dict(base=list(base), novel=list(novel)),
        candidates=True,
        begin=61,  # after the burn-in, in every row
    ),
]

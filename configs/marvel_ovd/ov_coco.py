# MarvelOVD on OV-COCO (48 base, 17 novel classes), numbers of the released code
# (commit e9615e0): 90001 iterations of 16 images, each in two views.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/metrics/boxes.py",
    "../_base_/models/faster_rcnn_r50_fpn_caffe.py",
]
from pld_mmdet.recipes import class_names, drops, optimizer, warm_up
from pld_mmdet.recipes.detection import (
    at_test,
    coco,
    packing,
    short_sides,
    strong_view,
    to_test,
    to_train,
)

data_root = "data/coco/"
how_to_get = dict(
    data=(
        "unpack COCO 2017 into data/coco, then: python tools/make_ov_coco.py coco; "
        "python tools/make_clip_candidates.py --help (text, then boxes)"
    )
)
text_file = data_root + "annotations/ov/text.npz"
candidates = "annotations/ov/train_candidates.json"
classes, novel = class_names.OV_COCO, class_names.OV_COCO_NOVEL
base = [name for name in classes if name not in novel]

detector = _base_.detector
detector.roi_head.bbox_head.num_classes = 65
detector.roi_head.bbox_head.reg_class_agnostic = True
# 1024 -> 512, times text vectors; no norm, no temperature; background is a zero row
detector.roi_head.bbox_head.cls_predictor_cfg = dict(
    type="pld_mmdet.TextEmbeddingClassifier", path=text_file, names=classes, emb_dim=512
)
model = dict(
    type="pld_mmdet.MarvelOVD",
    detector=detector,
    novel=[classes.index(name) for name in novel],
    burn_in=500,
    burn_in_threshold=0.9,  # paper: 0.8
    mix=0.5,
    threshold=0.9,
    weight_mix=0.5,
    gamma=2.0,
)

pack = packing("pld_mmdet.PackCandidates", homography=False)
strong = strong_view(pack)
resize = short_sides(640)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="pld_mmdet.LoadBoxExtras"),
    resize,
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="MultiBranch", branch_field=["weak", "strong"], weak=[pack], strong=strong
    ),
]
test_pipeline = at_test((1333, 800))
_boxes = coco(data_root, candidates, classes, train_pipeline, images="train2017/")
_kind = dict(
    type="pld_mmdet.CandidateCocoDataset", filter_cfg=dict(filter_empty_gt=True)
)
train_dataloader = to_train(
    {**_boxes, **_kind},
    16,  # on one GPU; with n GPUs 16 / n
    workers=4,
)
val_dataloader = test_dataloader = to_test(
    data_root, "annotations/ov/val.json", classes, test_pipeline, images="val2017/"
)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.GroupAP50Metric",
    ann_file=data_root + "annotations/ov/val.json",
    groups=dict(novel=list(novel), base=base),
    paper_metric="coco/AP50",
)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90001, val_interval=30000)
optim_wrapper = optimizer("SGD", 0.02, momentum=0.9, weight_decay=1e-4)
param_scheduler = [warm_up(0.001, 1000), drops(60000, 80000)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=2))
custom_hooks = [*_base_.custom_hooks, dict(type="pld_mmdet.PseudoBoxHook", interval=50)]
log_processor = dict(by_epoch=False)

# Dual polishing on VOC: 2007's trainval labelled, 2012's unlabelled, test on 2007 (8
# GPUs of 2 images, 1 : 1), numbers as in the authors' released configs. They train in
# fp16: add --amp fp16. COCO's AP counts VOC's difficult objects like any other.
_base_ = "./coco_10pct.py"
from pld_mmdet.recipes import class_names, drops, warm_up
from pld_mmdet.recipes.detection import at_test, coco

how_to_get = dict(
    data=(
        "unpack VOCtrainval and VOCtest of 2007 and VOCtrainval of 2012 into "
        "data/VOCdevkit, then: python tools/prepare.py voc"
    )
)
data_root = "data/VOCdevkit/"
classes = class_names.VOC
detector = _base_.detector
detector.roi_head.bbox_head.num_classes = 20
model = dict(detector=detector, unsup_weight=1.0)

resize = dict(type="Resize", scale=(1000, 600), keep_ratio=True)
labelled_pipeline = [
    resize if step == _base_.resize else step for step in _base_.labelled_pipeline
]
views = _base_.unlabelled_pipeline[-1]
views.weak[0] = views.strong[0] = resize
unlabelled_pipeline = [*_base_.unlabelled_pipeline[:-1], views]
labelled = dict(
    type="VOCDataset",
    data_root=data_root,
    ann_file="VOC2007/ImageSets/Main/trainval.txt",
    data_prefix=dict(sub_data_root="VOC2007/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=labelled_pipeline,
)
unlabelled = dict(
    type="VOCDataset",
    data_root=data_root,
    ann_file="VOC2012/ImageSets/Main/trainval.txt",
    data_prefix=dict(sub_data_root="VOC2012/"),
    filter_cfg=dict(filter_empty_gt=False),
    pipeline=unlabelled_pipeline,
)
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    sampler=dict(batch_size=2, source_ratio=[1, 1]),
    dataset=dict(dataset=dict(datasets=[labelled, unlabelled])),
)
test_pipeline = at_test((1000, 600))
val_dataloader = test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **coco(data_root, "annotations/test.json", classes, test_pipeline),
        test_mode=True,
    )
)
val_evaluator = test_evaluator = dict(ann_file=data_root + "annotations/test.json")

max_iters = 45000
first_drop = 30000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [warm_up(0.001, 500), drops(first_drop, 40000)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
custom_hooks = [
    *[h for h in _base_.custom_hooks if h.get("stop_after") is None],
    dict(type="pld_mmdet.RampedEMAHook", keep=0.999, warm_up=0, stop_after=first_drop),
]

# LPLD, Cityscapes -> BDD100k daytime: the detector has 8 classes, of which 7 occur in
# the annotations (trains are left out, as in the papers); the mean is over those.
_base_ = "./foggy_cityscapes.py"

load_from = "work_dirs/source/cityscapes/last.pth"
data_root = "data/bdd100k/"
classes = _base_.classes
metainfo = dict(classes=classes)
expected_counts = dict(train=36728, val=5258)
how_to_get = dict(
    data="python tools/prepare.py bdd100k --root data/bdd100k",
    checkpoint="python tools/train.py configs/source/cityscapes.py",
)
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=8))))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            metainfo=metainfo,
            files="data/bdd100k/annotations/train_daytime_images.txt",
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="annotations/val_daytime.json", metainfo=metainfo
    )
)
val_evaluator = test_evaluator = dict(
    ann_file=data_root + "annotations/val_daytime.json"
)

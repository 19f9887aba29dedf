# LPLD, VOC -> Clipart1k: 20 classes, 500 images to adapt to, 500 to test on.
_base_ = ["./foggy_cityscapes.py", "../_base_/datasets/voc_classes.py"]

load_from = "work_dirs/source/voc/last.pth"
data_root = "data/clipart/"
classes = _base_.voc_classes
metainfo = dict(classes=classes)
expected_counts = dict(train=500, val=500)
how_to_get = dict(
    data="python tools/prepare.py clipart1k --root data/clipart",
    checkpoint="python tools/train.py configs/source/voc.py",
)
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=20))))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            metainfo=metainfo,
            files="data/clipart/annotations/train_images.txt",
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="annotations/test.json", metainfo=metainfo
    )
)
val_evaluator = test_evaluator = dict(ann_file=data_root + "annotations/test.json")

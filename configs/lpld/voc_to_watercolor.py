# LPLD, VOC -> Watercolor2k: a 20-class detector, of which 6 classes occur; the mean is
# over those.
_base_ = ["./foggy_cityscapes.py", "../_base_/datasets/voc_classes.py"]

load_from = "work_dirs/source/voc/last.pth"
data_root = "data/watercolor/"
classes = _base_.voc_classes
metainfo = dict(classes=classes)
expected_counts = dict(train=1000, val=1000)
how_to_get = dict(
    data="python tools/prepare.py watercolor2k --root data/watercolor",
    checkpoint="python tools/train.py configs/source/voc.py",
)
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=20))))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            metainfo=metainfo,
            files="data/watercolor/annotations/train_images.txt",
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="annotations/test.json", metainfo=metainfo
    )
)
val_evaluator = test_evaluator = dict(ann_file=data_root + "annotations/test.json")

# Source detector for VOC -> Clipart1k and Watercolor2k: VOC 2007 and 2012 trainval.
_base_ = ["./cityscapes.py", "../_base_/datasets/voc_classes.py"]

data_root = "data/VOCdevkit/"
classes = _base_.voc_classes
metainfo = dict(classes=classes)
expected_counts = dict(train=16551, val=4952)
how_to_get = dict(data="python tools/prepare.py voc --root data/VOCdevkit")
model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root, ann_file="annotations/train.json", metainfo=metainfo
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root="data/VOCdevkit/", ann_file="annotations/test.json", metainfo=metainfo
    )
)
val_evaluator = test_evaluator = dict(ann_file="data/VOCdevkit/annotations/test.json")

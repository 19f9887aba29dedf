# Source detector for KITTI -> Cityscapes: cars. Evaluated on Cityscapes, because the
# benchmark splits no part of KITTI off.
_base_ = "./cityscapes.py"

data_root = "data/kitti/"
classes = ("car",)
metainfo = dict(classes=classes)
expected_counts = dict(train=7481, val=500)
how_to_get = dict(
    data=(
        "python tools/prepare.py kitti --root data/kitti && "
        "python tools/prepare.py cityscapes --root data/cityscapes"
    )
)
model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root, ann_file="annotations/train.json", metainfo=metainfo
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root="data/cityscapes/", ann_file="annotations/val.json", metainfo=metainfo
    )
)
val_evaluator = test_evaluator = dict(ann_file="data/cityscapes/annotations/val.json")

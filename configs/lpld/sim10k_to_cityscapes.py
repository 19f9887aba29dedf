# LPLD, Sim10k -> Cityscapes: cars only; one class passes the certainty test always.
_base_ = "./foggy_cityscapes.py"

load_from = "work_dirs/source/sim10k/last.pth"
data_root = "data/cityscapes/"
classes = ("car",)
metainfo = dict(classes=classes)
expected_counts = dict(train=2975, val=500)
how_to_get = dict(
    data="python tools/prepare.py cityscapes --root data/cityscapes",
    checkpoint="python tools/train.py configs/source/sim10k.py",
)
model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=1))))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            metainfo=metainfo,
            pattern="leftImg8bit/train/*/*_leftImg8bit.png",
        )
    )
)
val_dataloader = test_dataloader = dict(
    dataset=dict(
        data_root=data_root, ann_file="annotations/val.json", metainfo=metainfo
    )
)
val_evaluator = test_evaluator = dict(ann_file=data_root + "annotations/val.json")

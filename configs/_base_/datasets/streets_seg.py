# FoggyStreets as a segmentation data set, 64 x 128: 320 train, 80 val, 160 test scenes.
# Label maps come from the instanceIds PNGs, by the seven categories of Cityscapes: at
# this size, riders and motorcycles are a few pixels.
_base_ = []
from pld_mmdet.recipes import loader

data_root = "data/street_maps/"
how_to_get = dict(
    data="python tools/prepare.py foggy_streets --root data/street_maps --size 128x64 "
    "--train 320 --val 80 --test 160"
)
categories = dict(
    flat=["road", "sidewalk"],
    construction=["building"],
    object=["pole", "traffic sign"],
    nature=["vegetation"],
    sky=["sky"],
    human=["person", "rider"],
    vehicle=["car", "truck", "bus", "train", "motorcycle", "bicycle"],
)
classes = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
collate = dict(type="default_collate")
load = dict(type="LoadImageFromFile")
label = dict(type="pld_mmdet.LoadInstanceIds", classes=classes, groups=categories)
pack = dict(type="pld_mmdet.PackMaps")
weak = [
    dict(type="pld_mmdet.RandomSizedCrop", heights=(40, 64), size=(64, 128)),
    dict(type="RandomFlip", prob=0.5),
]
streets = dict(
    type="mmseg.BaseSegDataset",
    data_root=data_root,
    img_suffix="_leftImg8bit.png",
    seg_map_suffix="_gtFine_instanceIds.png",
    metainfo=dict(classes=classes),
)
clear_scenes = dict(
    train=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
    val=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
    test=dict(img_path="leftImg8bit/test", seg_map_path="gtFine/test"),
)
train_dataloader = loader(
    dict(
        **streets,
        data_prefix=clear_scenes["train"],
        pipeline=[load, label, *weak, pack],
    ),
    8,
    train=True,
    seeded=True,
)
val_dataloader = loader(
    dict(
        **streets,
        data_prefix=clear_scenes["val"],
        pipeline=[load, label, pack],
        test_mode=True,
    ),
    16,
)
test_dataloader = loader(
    dict(
        **streets,
        data_prefix=clear_scenes["test"],
        pipeline=[load, label, pack],
        test_mode=True,
    ),
    16,
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.MeanIoU")
val_cfg = test_cfg = dict()

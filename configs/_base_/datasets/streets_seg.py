# FoggyStreets as a segmentation data set, 64 x 128: 320 train, 80 val, 160 test scenes.
# Label maps come from the instanceIds PNGs, by the seven categories of Cityscapes: at
# this size, riders and motorcycles are a few pixels.
_base_ = []
from pld_mmdet.recipes import loaders, segmentation

data_root = "data/street_maps/"
how_to_get = dict(data=segmentation.STREET_MAPS)
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
clear_scenes = {
    part: dict(img_path=f"leftImg8bit/{part}", seg_map_path=f"gtFine/{part}")
    for part in ("train", "val", "test")
}
scored = dict(pipeline=[load, label, pack], test_mode=True)
train_dataloader, val_dataloader, test_dataloader = loaders(
    streets,
    8,
    train=dict(data_prefix=clear_scenes["train"], pipeline=[load, label, *weak, pack]),
    val=dict(data_prefix=clear_scenes["val"], **scored),
    test=dict(data_prefix=clear_scenes["test"], **scored),
    eval_batch=16,
    seeded=True,
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.MeanIoU")
val_cfg = test_cfg = dict()
# The walk of the tests: a tree of a few scenes. A toy adds `few_scenes` to its `walk`.
walk_data = (
    "python tools/prepare.py foggy_streets --root data/street_maps_walk --size 128x64 "
    "--train 12 --val 2 --test 2"
)

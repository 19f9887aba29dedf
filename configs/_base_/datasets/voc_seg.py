# Pascal VOC 2012 as segmentation papers use it: 10582 training images (VOC and the
# Semantic Boundaries Dataset), 1449 of val, 21 classes, whole images at test time.
_base_ = []
from pld_mmdet.recipes import loader

how_to_get = dict(
    data="put VOC 2012 into data/VOCdevkit/VOC2012 and the label maps of SBD beside "
    "VOC's as SegmentationClassAug (mmsegmentation: "
    "tools/dataset_converters/voc_aug.py)"
)
load = dict(type="LoadImageFromFile")
label = dict(type="mmseg.LoadAnnotations")
pack = dict(type="pld_mmdet.PackMaps")
voc = dict(
    type="mmseg.PascalVOCDataset",
    data_root="data/VOCdevkit/VOC2012/",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassAug"),
    ann_file="ImageSets/Segmentation/trainaug.txt",
)
test_dataset = dict(
    type="mmseg.PascalVOCDataset",
    data_root="data/VOCdevkit/VOC2012/",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/val.txt",
    test_mode=True,
)
# the long side of a VOC image is 500 pixels
scaled = dict(
    type="mmseg.RandomResize", scale=(500, 500), ratio_range=(0.5, 2), keep_ratio=True
)
cut = [
    dict(type="mmseg.RandomCrop", crop_size=(321, 321)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", size=(321, 321), pad_val=dict(img=0, seg=255)),
]
val_dataloader = test_dataloader = loader(
    dict(**test_dataset, pipeline=[load, label, pack]), 1, workers=4, persistent=False
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.MeanIoU")
val_cfg = test_cfg = dict()

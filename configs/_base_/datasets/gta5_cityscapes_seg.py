# GTA5 with labels -> Cityscapes without, as DAFormer and its followers prepare them:
# label maps of both in Cityscapes' 19 train ids (*_labelTrainIds.png).
how_to_get = dict(
    data="put GTA5 into data/gta5/{images,labels} and Cityscapes into data/cityscapes/"
    "{leftImg8bit,gtFine}, then write *_labelTrainIds.png beside the label maps "
    "(mmsegmentation: tools/dataset_converters/cityscapes.py; "
    "DAFormer: tools/convert_datasets/gta.py)"
)
load = dict(type="LoadImageFromFile")
label = dict(type="mmseg.LoadAnnotations")
pack = dict(type="pld_mmdet.PackMaps")
gta5 = dict(
    type="mmseg.CityscapesDataset",
    data_root="data/gta5/",
    img_suffix=".png",
    seg_map_suffix="_labelTrainIds.png",
    data_prefix=dict(img_path="images", seg_map_path="labels"),
)
cityscapes = dict(
    type="mmseg.CityscapesDataset",
    data_root="data/cityscapes/",
    data_prefix=dict(img_path="leftImg8bit/train"),
)
test_dataset = dict(
    type="mmseg.CityscapesDataset",
    data_root="data/cityscapes/",
    data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
    test_mode=True,
)
val_evaluator = test_evaluator = dict(type="pld_mmdet.MeanIoU")
val_cfg = test_cfg = dict()

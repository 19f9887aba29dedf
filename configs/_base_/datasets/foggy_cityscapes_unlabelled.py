# Training: foggy images without labels, as a weak and a strong view of one geometry.
# Evaluation: foggy val images with boxes.
_base_ = "../metrics/boxes.py"
from pld_mmdet.recipes import class_names
from pld_mmdet.recipes.detection import at_test, packing, strong_view, to_test, to_train

data_root = "data/cityscapes/"
classes = class_names.CITYSCAPES
metainfo = dict(classes=classes)
scale = (1333, 600)  # longer side at most, shorter side
how_to_get = dict(
    data="put leftImg8bit, leftImg8bit_foggy and gtFine of Cityscapes into "
    "data/cityscapes, then: python tools/prepare.py foggy_cityscapes "
    "--root data/cityscapes --beta 0.02",
    checkpoint="python tools/train.py configs/source/cityscapes.py",
)

pack = packing()
jitter = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8)
views = dict(weak=[pack], strong=strong_view(pack, **jitter))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="MultiBranch", branch_field=["weak", "strong"], **views),
]
test_pipeline = at_test(scale)

foggy = dict(
    type="pld_mmdet.ImageFolder",
    data_root=data_root,
    pattern="leftImg8bit_foggy/train/*/*_foggy_beta_0.02.png",
    metainfo=metainfo,
    pipeline=train_pipeline,
)
train_dataloader = to_train(foggy, infinite=False)
val_boxes = "annotations/val_foggy_beta_0.02.json"
val_dataloader = test_dataloader = to_test(data_root, val_boxes, classes, test_pipeline)
val_evaluator = test_evaluator = dict(
    type="pld_mmdet.AP50Metric", ann_file=data_root + val_boxes
)

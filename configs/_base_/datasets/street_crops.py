# StreetCrops: 32 x 32 crops of generated streets, eight classes as frequent as there;
# 6000 to learn from, 1500 val, 2500 test (about 14 % of each are background, left out).
_base_ = "../metrics/accuracy_val.py"
from pld_mmdet.recipes import loader

how_to_get = dict(data="python tools/prepare.py street_crops")
train_dataloader = loader(
    dict(type="pld_mmdet.StreetCrops", part="train", data_root="data/street_crops"),
    64,
    train=True,
)
val_dataloader = loader(
    dict(type="pld_mmdet.StreetCrops", part="val", data_root="data/street_crops"), 500
)
test_dataloader = loader(
    dict(type="pld_mmdet.StreetCrops", part="test", data_root="data/street_crops"), 500
)
# The walk of the tests: 200 crops, made once. A toy adds to its `walk`:
# "train_dataloader.dataset.data_root=data/tiny_crops"
walk_data = "python tools/prepare.py street_crops --root data/tiny_crops --crops 200"

# scikit-learn's digits: real 8x8 images; 1077 to learn from, 360 val, 360 test.
_base_ = "../metrics/accuracy_val.py"
from pld_mmdet.recipes import loader

train_dataloader = loader(dict(type="pld_mmdet.Digits", part="train"), 64, train=True)
val_dataloader = loader(dict(type="pld_mmdet.Digits", part="val"), 360)
test_dataloader = loader(dict(type="pld_mmdet.Digits", part="test"), 360)

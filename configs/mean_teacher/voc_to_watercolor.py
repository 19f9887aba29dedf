# Mean Teacher, VOC -> Watercolor2k: a 20-class detector, of which 6 classes occur; the
# mean is over those.
_base_ = "./voc_to_clipart.py"
from pld_mmdet.recipes.detection import moved

data_root = "data/watercolor/"
expected_counts = dict(train=1000, val=1000)
how_to_get = dict(data="python tools/prepare.py watercolor2k --root data/watercolor")
train_dataloader, val_dataloader, val_evaluator = moved(
    _base_.classes,
    data_root,
    tested="test.json",
    files="data/watercolor/annotations/train_images.txt",
)
test_dataloader, test_evaluator = val_dataloader, val_evaluator

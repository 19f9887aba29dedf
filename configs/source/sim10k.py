# Source detector for Sim10k -> Cityscapes: cars of the game. Evaluated on Cityscapes,
# because the benchmark splits no part of Sim10k off.
_base_ = "./kitti.py"
from pld_mmdet.recipes.detection import train_set

data_root = "data/sim10k/"
expected_counts = dict(train=10000)
how_to_get = dict(
    data="python tools/prepare.py sim10k --root data/sim10k && "
    "python tools/prepare.py cityscapes --root data/cityscapes"
)
train_dataloader = train_set(data_root=data_root)

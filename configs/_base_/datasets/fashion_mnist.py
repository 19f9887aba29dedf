# Fashion-MNIST: 28 x 28 px, ten classes; 55,000 to learn from, 5,000 val, 10,000 test.
_base_ = "../metrics/accuracy_val.py"
from pld_mmdet.recipes import loader
from pld_mmdet.recipes.fashion import fashion

how_to_get = dict(data="python tools/prepare.py fashion_mnist")
train_dataloader = loader(fashion("train"), 64, train=True)
val_dataloader = loader(fashion("val"), 500)
test_dataloader = loader(fashion("test"), 500)

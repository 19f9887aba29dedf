# A synthetic language with a known distribution: order-2 Markov source, 32 tokens.
# The teacher of its methods is the source itself.
_base_ = []
from pld_mmdet.recipes import loader

train_dataloader = loader(
    dict(type="pld_mmdet.MarkovText", part="train", size=2048), 32, train=True
)
val_dataloader = loader(dict(type="pld_mmdet.MarkovText", part="val", size=256), 128)
test_dataloader = loader(dict(type="pld_mmdet.MarkovText", part="test", size=512), 128)
val_evaluator = test_evaluator = dict(type="pld_mmdet.TokenMeanMetric")
val_cfg = test_cfg = dict()

# KD-Prune on a tenth of CIFAR-100, ResNet-32 and a teacher of its kind. No code was
# released and the paper's recipe was not found: SGD 0.1, cosine over 200 epochs of the
# whole set in batches of 128, which is DeepCore's, the framework that it extends.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cifar, loader, optimizer, stage, staged

data_root = "data/cifar-100-binary"
how_to_get = dict(data=cifar(100))
network = dict(
    type="pld_mmdet.CIFARResNet",
    num_classes=100,
    blocks=(5, 5, 5),
    widths=(16, 32, 64),
    stem=16,
    pre_activation=False,
)
model = dict(type="pld_mmdet.KDPrune", student=network, teachers=[network], alpha=0.9)
whole = dict(type="pld_mmdet.CIFAR", data_root=data_root, part="train", augment=True)
train_dataloader = loader(
    dict(type="pld_mmdet.Pruned", dataset=whole, share=0.1),
    128,
    train=True,
    seeded=True,
    workers=4,
)
test_dataloader = loader(
    dict(type="pld_mmdet.CIFAR", data_root=data_root, part="test"), 256
)
test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_cfg = dict()
steps = 200 * 391
cosine = dict(type="CosineAnnealingLR", T_max=steps, by_epoch=False)
train_cfg = staged(
    stage(
        "teacher", steps, data=loader(whole, 128, train=True, seeded=True, workers=4)
    ),
    stage("distill", steps),
)
optim_wrapper = optimizer("SGD", 0.1, momentum=0.9, weight_decay=5e-4)
param_scheduler = cosine
find_unused_parameters = True

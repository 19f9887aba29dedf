# ShrinkMatch on CIFAR-10 with 4 labels a class, WRN-28-2 (LiheYoung/ShrinkMatch, commit
# c4339b8, CIFAR): 1024 x 1024 steps of 64 + 448 images. Theirs has leaky ReLUs,
# RandAugment, no decay of norms and biases, and the rate cos(7 pi t / 16); the half
# cosine here ends at a fifth of the rate, where theirs ends too.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cifar, cosine, from_each, iterations, loader, optimizer

data_root = "data/cifar-10-batches-bin"
how_to_get = dict(data=cifar(10))
model = dict(
    type="pld_mmdet.ShrinkMatch",
    student=dict(
        type="pld_mmdet.CIFARResNet",
        num_classes=10,
        blocks=(4, 4, 4),
        widths=(32, 64, 128),
        stem=16,
    ),
    num_classes=10,
)
# the views want images in [0, 1]
cifar = dict(
    type="pld_mmdet.CIFAR",
    data_root=data_root,
    classes=10,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
few = dict(
    type="pld_mmdet.LabelSubsets",
    dataset=dict(cifar, part="train"),
    labelled=4,
    subsets=1,
)
train_dataloader = loader(
    dict(type="pld_mmdet.LabelledAndNot", datasets=[few, dict(cifar, part="train")]),
    512,
    sampler=from_each(512, 1, 7),
    workers=4,
)
test_dataloader = loader(dict(cifar, part="test"), 256)
test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_cfg = dict()
steps = 1024 * 1024
train_cfg = iterations(steps)
optim_wrapper = optimizer("SGD", 0.03, momentum=0.9, weight_decay=5e-4, nesterov=True)
param_scheduler = cosine(T_max=steps, eta_min=0.03 * 0.195)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.999, moment="before", buffers="copy"),
]

# ShrinkMatch on CIFAR-10 with 4 labels a class, WRN-28-2 (LiheYoung/ShrinkMatch, commit
# c4339b8, CIFAR): 1024 x 1024 steps of 64 + 448 images. Theirs has leaky ReLUs,
# RandAugment, no decay of norms and biases, and the rate cos(7 pi t / 16); the half
# cosine here ends at a fifth of the rate, where theirs ends too.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, from_each, iterations, loader, optimizer
from pld_mmdet.recipes.images import cifar, cifar_files, wide_resnet

how_to_get = dict(data=cifar_files(10))
model = dict(
    type="pld_mmdet.ShrinkMatch",
    student=wide_resnet(10),
    num_classes=10,
)
# the views want images in [0, 1]
raw = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
whole = cifar(10, "train", **raw)
few = dict(type="pld_mmdet.LabelSubsets", dataset=whole, labelled=4, subsets=1)
train_dataloader = loader(
    dict(type="pld_mmdet.LabelledAndNot", datasets=[few, whole]),
    512,
    sampler=from_each(512, 1, 7),
    workers=4,
)
test_dataloader = loader(cifar(10, "test", **raw), 256)
steps = 1024 * 1024
train_cfg = iterations(steps)
optim_wrapper = optimizer("SGD", 0.03, momentum=0.9, weight_decay=5e-4, nesterov=True)
param_scheduler = cosine(T_max=steps, eta_min=0.03 * 0.195)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.999, moment="before", buffers="copy"),
]
walk = ["model.student.blocks=(1,1,1)", "model.student.widths=(8,16,16)"]
walk_data = {"data/cifar-10-batches-bin": dict(kind="cifar10", images=40)}

# Self-distillation on CIFAR-10 as in the README of Kennethborup/self_distillation
# (commit cb20d6c): five steps of 75 epochs, Adam 1e-4, batches of 16, alpha 0.6. Their
# network is a ResNet-50; here a ResNet-18, which their code offers too.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import loaders, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar, cifar_files

how_to_get = dict(data=cifar_files(10))
model = dict(
    type="pld_mmdet.SelfDistillationChain",
    student=dict(type="pld_mmdet.CIFARResNet", num_classes=10, pre_activation=False),
    alpha=0.6,
)
train_dataloader, _, test_dataloader = loaders(
    cifar(10),
    16,
    train=dict(part="train", augment=True),
    test=dict(part="test"),
    eval_batch=256,
    seeded=True,
    workers=4,
)
epoch = 50000 // 16
train_cfg = staged(*[stage(f"fit_{i}", 75 * epoch) for i in (1, 2, 3, 4, 5)])
optim_wrapper = optimizer("Adam", 1e-4, weight_decay=1e-4)
walk = ["model.student.widths=(8,8,8,8)"]
walk_data = {"data/cifar-10-batches-bin": "cifar10"}

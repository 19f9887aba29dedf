# RAD on CIFAR-10: Adam, batches of 128, 1000 validation images (a public summary of
# the paper; no code was released). Sizes of networks, rounds and purchases and the
# length of a round were not found: these are ours.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cifar, cosine, loader, optimizer, stage, staged

data_root = "data/cifar-10-batches-bin"
how_to_get = dict(data=cifar(10))
student = dict(
    type="pld_mmdet.CIFARResNet",
    num_classes=10,
    blocks=(3, 3, 3),
    widths=(16, 32, 64),
    stem=16,
    pre_activation=False,
)
whole = dict(type="pld_mmdet.CIFAR", data_root=data_root, classes=10, part="train")
known = dict(type="pld_mmdet.Part", dataset=whole, start=0, stop=5000)
validation = dict(type="pld_mmdet.Part", dataset=whole, start=5000, stop=6000)
pool = dict(type="pld_mmdet.Part", dataset=whole, start=6000, stop=50000)
model = dict(
    type="pld_mmdet.RAD",
    student=student,
    teachers=[dict(student, blocks=(9, 9, 9))],
    num_samples=44000,
    num_classes=10,
    batch=5000,
    validation=validation,
)
train_dataloader = loader(known, 128, train=True)
bought = loader(
    dict(type="pld_mmdet.Bought", known=known, pool=pool, file="{folder}/bought.pth"),
    128,
    train=True,
)
test_dataloader = loader(
    dict(type="pld_mmdet.CIFAR", data_root=data_root, classes=10, part="test"), 256
)
test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_cfg = dict()
later = dict(data=bought, work=loader(pool, 500))
train_cfg = staged(
    stage("teacher", 20000),
    stage("round_1", 20000),
    *(stage(f"round_{r}", 20000, **later) for r in (2, 3, 4)),
)
optim_wrapper = optimizer("Adam", 1e-3)
param_scheduler = cosine(T_max=20000)
find_unused_parameters = True

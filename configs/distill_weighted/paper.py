# DistillWeighted in the published form: lam 0.8, p 12 (both unconfirmed, only a README
# was released). Target task, networks, rate and length were not found: CIFAR-10 with 40
# labels a class, ResNet-20 and CIFAR-100's ResNet-56 as the source are ours. Give more
# sources, and load their weights with `load_from`.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, from_each, loader, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar, cifar_files, thin_resnet

how_to_get = dict(data=cifar_files(10))
model = dict(
    type="pld_mmdet.DistillWeighted",
    student=thin_resnet(3, 10),
    teachers=[thin_resnet(9, 100)],
    lam=0.8,
    p=12.0,
)
whole = cifar(10, "train")
few = dict(type="pld_mmdet.LabelSubsets", dataset=whole, labelled=40, subsets=1)
train_dataloader = loader(
    dict(type="pld_mmdet.LabelledAndNot", datasets=[few, whole]),
    128,
    sampler=from_each(128, 1, 3),
    workers=4,
)
test_dataloader = loader(cifar(10, "test"), 256)
train_cfg = staged(stage("distill", 20000, work=loader(few, 400)))
optim_wrapper = optimizer("SGD", 0.1, momentum=0.9, weight_decay=1e-4)
param_scheduler = cosine(T_max=20000)
find_unused_parameters = True  # heads of sources with weight 0
walk = ["model.student.blocks=(1,1,1)", "model.teachers.0.blocks=(1,1,1)"]
walk += ["model.p=0"]  # tiny sources resemble nothing
walk_data = {"data/cifar-10-batches-bin": dict(kind="cifar10", images=90)}

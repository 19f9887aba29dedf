# RAD on CIFAR-10: Adam, batches of 128, 1000 validation images (a public summary of
# the paper; no code was released). Sizes of networks, rounds and purchases and the
# length of a round were not found: these are ours.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar, cifar_files, thin_resnet

how_to_get = dict(data=cifar_files(10))
known, validation, pool = (
    dict(type="pld_mmdet.Part", dataset=cifar(10, "train"), start=start, stop=stop)
    for start, stop in ((0, 5000), (5000, 6000), (6000, 50000))
)
model = dict(
    type="pld_mmdet.RAD",
    student=thin_resnet(3, 10),
    teachers=[thin_resnet(9, 10)],
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
test_dataloader = loader(cifar(10, "test"), 256)
later = dict(data=bought, work=loader(pool, 500))
train_cfg = staged(
    stage("teacher", 20000),
    stage("round_1", 20000),
    *(stage(f"round_{r}", 20000, **later) for r in (2, 3, 4)),
)
optim_wrapper = optimizer("Adam", 1e-3)
param_scheduler = cosine(T_max=20000)
find_unused_parameters = True
walk = ["model.student.blocks=(1,1,1)", "model.teachers.0.blocks=(1,1,1)"]
walk += ["model.num_samples=24", "model.batch=4"]
few = dict(known=(0, 8), validation=(8, 16), pool=(16, 40))
places = {"model.validation": "validation", "train_dataloader.dataset": "known"}
for r in (2, 3, 4):
    places[f"train_cfg.stages.{r}.work_dataloader.dataset"] = "pool"
    for part in ("known", "pool"):
        places[f"train_cfg.stages.{r}.dataloader.dataset.{part}"] = part
for place, part in places.items():
    walk += [f"{place}.{end}={few[part][i]}" for i, end in enumerate(("start", "stop"))]
walk_data = {"data/cifar-10-batches-bin": "cifar10"}

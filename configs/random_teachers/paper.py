# Random teachers on CIFAR-10: ResNet-18 with DINO's head of 65536 outputs, 100 epochs
# of 256 images as they are, Adam 1e-3 (safelix/dinopl, commit cd39e78,
# configs/cifar10_distillation_v2.json). Their probe is AdamW for ten epochs on the
# training part; ours is the cross-validated one on the test part.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import iterations, loader, optimizer
from pld_mmdet.recipes.images import cifar, cifar_files

how_to_get = dict(data=cifar_files(10))
model = dict(
    type="pld_mmdet.RandomTeachers",
    student=dict(
        type="pld_mmdet.HeadedEncoder",
        encoder=dict(type="pld_mmdet.CIFARResNet", pre_activation=False),
    ),
)
train_dataloader = loader(cifar(10, "train"), 256, train=True, workers=4)
test_dataloader = loader(cifar(10, "test"), 256)
test_evaluator = dict(type="pld_mmdet.LinearProbeMetric")
test_cfg = dict()
train_cfg = iterations(100 * 50000 // 256)
optim_wrapper = optimizer("Adam", 1e-3)
walk = ["model.student.encoder.widths=(8,8,8,8)"]
walk += ["model.student.outputs=16", "model.student.hidden=16"]
walk_data = {"data/cifar-10-batches-bin": dict(kind="cifar10", images=60)}

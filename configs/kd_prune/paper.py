# KD-Prune on a tenth of CIFAR-100, ResNet-32 and a teacher of its kind. No code was
# released and the paper's recipe was not found: SGD 0.1, cosine over 200 epochs of the
# whole set in batches of 128, which is DeepCore's, the framework that it extends.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
from pld_mmdet.recipes.images import cifar, cifar_files, thin_resnet

how_to_get = dict(data=cifar_files(100))
network = thin_resnet(5, 100)
model = dict(type="pld_mmdet.KDPrune", student=network, teachers=[network], alpha=0.9)
whole = cifar(100, "train", augment=True)
drawn = dict(train=True, seeded=True, workers=4)
train_dataloader = loader(
    dict(type="pld_mmdet.Pruned", dataset=whole, share=0.1), 128, **drawn
)
test_dataloader = loader(cifar(100, "test"), 256)
steps = 200 * 391
train_cfg = staged(
    stage("teacher", steps, data=loader(whole, 128, **drawn)), stage("distill", steps)
)
optim_wrapper = optimizer("SGD", 0.1, momentum=0.9, weight_decay=5e-4)
param_scheduler = cosine(T_max=steps)
find_unused_parameters = True
walk = ["model.student.blocks=(1,1,1)", "model.teachers.0.blocks=(1,1,1)"]
walk_data = {"data/cifar-100-binary": dict(kind="cifar100", images=80)}

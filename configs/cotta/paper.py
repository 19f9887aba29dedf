# CoTTA on CIFAR-10-C, severity 5: WideResNet-28-10, batches of 200, 32 views, Adam
# 1e-3. 750 batches: 15 corruptions of 10000 images, no reset between them.
_base_ = ["../_base_/toy_runtime.py"]
from pld_mmdet.recipes import loader, optimizer

how_to_get = dict(
    data="download zenodo.org/records/2535967 and unpack it as data/CIFAR-10-C",
    checkpoint="put RobustBench's Standard CIFAR-10 weights (WideResNet-28-10) at "
    "checkpoints/cifar10_wrn28_10.pth",
)
load_from = "checkpoints/cifar10_wrn28_10.pth"
corruptions = [
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
model = dict(
    type="pld_mmdet.CoTTA",
    network=dict(type="pld_mmdet.WideResNet", depth=28, widen=10, num_classes=10),
    alpha=0.999,
    p=0.01,
    p_th=0.92,
    views=32,
)
dataset = dict(
    type="pld_mmdet.CifarC",
    data_root="data/CIFAR-10-C",
    corruptions=corruptions,
    severity=5,
)
test_dataloader = loader(dataset, 200, workers=2, persistent=False)
stream = dict(type="pld_mmdet.ResumableSampler", shuffle=False, infinite=True)
train_dataloader = dict(test_dataloader, sampler=stream)
test_evaluator = dict(type="pld_mmdet.StreamMetric")
test_cfg = dict()
train_cfg = dict(type="pld_mmdet.OnlineLoop", evaluator=test_evaluator)
optim_wrapper = optimizer("Adam", 1e-3, betas=(0.9, 0.999), weight_decay=0.0)

# SimCLRv2 on ImageNet with 10 % of the labels, ResNet-50 as both networks (the paper's
# self-distillation row; google-research/simclr, 383d414): 800 epochs of 4096 images,
# 30 epochs of 1024 of the 128 116 labelled ones, 400 epochs of 4096. LARS, the rate 0.1
# (tuning: 0.005) times the root of the batch.
_base_ = "../_base_/toy_runtime.py"

from pld_mmdet.recipes import cosine, loader, optimizer, staged, warm_up

how_to_get = dict(data="put ImageNet's folders into data/imagenet")
resnet = dict(
    type="pld_mmdet.BackboneClassifier",
    backbone=dict(type="mmdet.ResNet", depth=50, out_indices=(3,)),
    feat_dim=2048,
    num_classes=1000,
)
model = dict(
    type="pld_mmdet.SimCLRv2", student=resnet, teacher=resnet, num_classes=1000
)


def images(part, **more):
    return dict(type="pld_mmdet.ClassFolder", data_root=f"data/imagenet/{part}", **more)


def stage(name, steps, rate, warm, **more):
    schedule = [warm_up(1e-3, warm), cosine(T_max=steps - warm, begin=warm)]
    return dict(
        name=name,
        max_iters=steps,
        optim_wrapper=optimizer(
            "pld_mmdet.LARS", rate, momentum=0.9, weight_decay=1e-4
        ),
        param_scheduler=schedule if warm else schedule[1:],
        **more,
    )


few = images("train", share=0.1)
train_dataloader = loader(images("train"), 4096, train=True, workers=8)
test_dataloader = loader(images("val"), 256, workers=8)
test_evaluator = dict(type="pld_mmdet.ClassificationMetric")
test_cfg = dict()
epoch = 1281167 / 4096
tune = stage(
    "finetune",
    30 * 128116 // 1024,
    0.16,
    0,
    dataloader=loader(few, 1024, train=True, workers=8),
)
tune["optim_wrapper"]["optimizer"]["weight_decay"] = 0.0
train_cfg = staged(
    stage("pretrain", int(800 * epoch), 6.4, int(40 * epoch)),
    tune,
    stage("distill", int(400 * epoch), 6.4, int(20 * epoch)),
)
optim_wrapper = optimizer("pld_mmdet.LARS", 6.4, momentum=0.9, weight_decay=1e-4)
find_unused_parameters = True

# SPARSE on a MedMNIST set at 128 pixels, five labels of each class (GuidoManni/SPARSE,
# commit c1e144d, src/train.py, and tables 1 to 3 of the paper): AdamW 2e-4 with betas
# (0.5, 0.999), batches of 24, EfficientNet-B3 from ImageNet; 1000 passes over the few
# images with a label, and after the first of each ten one over all others (the paper's
# mu; their code 5). Dropout of 0.3 before the last layer is left out.
#   python tools/train.py configs/sparse/paper.py
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy.py"]

from pld_mmdet.recipes import images, in_turn, iterations, loader, parts

root, classes = "data/medmnist/bloodmnist", 8
how_to_get = dict(
    data="write the images of a MedMNIST set (medmnist.com, 128 pixels) into "
    "data/medmnist/<set>/labelled/<class>/, five of each class, unlabelled/<class>/ "
    "(all others) and test/<class>/"
)


def pictures(part, **more):
    return dict(
        type="pld_mmdet.ClassFolder", data_root=f"{root}/{part}", size=128, **more
    )


model = dict(
    type="pld_mmdet.SPARSE",
    generator=dict(type="pld_mmdet.AttentionUNet", num_classes=classes),
    discriminator=dict(type="pld_mmdet.ClassCritic", num_classes=classes),
    classifier=dict(
        type="pld_mmdet.BackboneClassifier",
        backbone=dict(
            type="mmdet.EfficientNet",
            arch="b3",
            out_indices=(6,),
            init_cfg=dict(
                type="Pretrained",
                checkpoint="https://download.openmmlab.com/mmclassification/v0/"
                "efficientnet/efficientnet-b3_3rdparty_8xb32_in1k_20220119-4b4d7487.pth",
                prefix="backbone.",
            ),
        ),
        feat_dim=1536,
        num_classes=classes,
        **images.IMAGENET_COLOURS,
    ),
    num_classes=classes,
    num_samples=20000,  # at least the images of both folders
)
train_dataloader = loader(
    dict(
        type="pld_mmdet.LabelledAndNot",
        datasets=[pictures("labelled"), pictures("unlabelled")],
    ),
    24,
    sampler=in_turn(24, every=10),
    workers=8,
)
test_dataloader = loader(pictures("test"), 256)
# of BloodMNIST: 2 batches of 40 labels, 497 of 11919 images without
train_cfg = iterations(1000 * 2 + 100 * 497)
adam = dict(optimizer=dict(type="AdamW", lr=2e-4, betas=(0.5, 0.999)))
slack = dict(optimizer=dict(adam["optimizer"], weight_decay=1e-4))
optim_wrapper = parts(generator=adam, discriminator=adam, classifier=slack)
model_wrapper_cfg = dict(type="PartsParallel")

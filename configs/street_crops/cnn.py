# A three-layer CNN on 400 labels of StreetCrops: what a method starts from. The gates
# say that raw pixels are weak here, the CNN is strong, and fog costs it much:
#   python tools/reproduce.py configs/street_crops/cnn.py --gate --seeds 0 1 2
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]

network = dict(
    type="pld_mmdet.SmallConvNet", in_channels=3, widths=(32, 64, 128), num_classes=8
)
model = dict(
    type="pld_mmdet.Classifier",
    network=network,
    view="jittered",
    label_smoothing=0.1,
)
train_dataloader = dict(dataset=dict(labelled=400))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=1000)
optim_wrapper = dict(
    type="pld_mmdet.FiniteOptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-3, weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, end=200, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=200, end=1000, by_epoch=False),
]
drawn = ["train_dataloader.dataset.label_seed={seed}"]
tests = dict(fog="configs/street_crops/fog.py", test=None)
experiment = dict(
    name="street_crops",
    metric="accuracy",
    data="python tools/prepare.py street_crops",
    columns={
        "accuracy": ("test", "accuracy"),
        "class-balanced": ("test", "balanced_accuracy"),
        "in fog": ("fog", "accuracy"),
    },
    reported="network of the last iteration",
    rows=[
        dict(name="cnn", title="CNN, 400 labels", options=drawn, evaluate=tests),
        dict(
            name="raw_pixels",
            title="Raw pixels, logistic regression",
            baseline=dict(type="raw_input", c=0.1),
            options=drawn,
            evaluate=tests,
        ),
        dict(
            name="random",
            title="Random weights, logistic regression",
            baseline=dict(type="random_weights", network="network"),
            options=drawn,
            evaluate=tests,
        ),
    ],
    gates=[
        dict(
            title="raw pixels, 400 labels",
            row="raw_pixels",
            on="test",
            metric="accuracy",
            at_most=0.62,
        ),
        dict(
            title="CNN, 400 labels",
            row="cnn",
            on="test",
            metric="accuracy",
            at_least=0.75,
        ),
        dict(
            title="CNN in fog at 0.02, share of its clear accuracy",
            row="cnn",
            on="fog",
            metric="accuracy",
            over="cnn",
            over_on="test",
            at_most=0.66,  # from 0.75 and more, that is 25 points
        ),
    ],
)

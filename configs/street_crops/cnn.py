# A three-layer CNN on 400 labels of StreetCrops: what a method starts from. The gates
# say that raw pixels are weak here, the CNN is strong, and fog costs it much:
#   python tools/reproduce.py configs/street_crops/cnn.py --gate --seeds 0 1 2
_base_ = ["../_base_/toy_runtime.py", "../_base_/datasets/street_crops.py"]
from pld_mmdet.recipes import cosine, optimizer, warm_up
from pld_mmdet.recipes.crops import crop_network, crops_table
from pld_mmdet.recipes.tables import on_test, raw_pixels, row

network = crop_network(32, 64, 128)
model = dict(
    type="pld_mmdet.Classifier", network=network, view="jittered", label_smoothing=0.1
)
train_dataloader = dict(dataset=dict(labelled=400))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=1000)
optim_wrapper = optimizer("AdamW", 6e-3, weight_decay=0.05)
param_scheduler = [warm_up(0.1, 200), cosine(begin=200, end=1000)]
drawn = ["train_dataloader.dataset.label_seed={seed}"]
tests = dict(fog="configs/street_crops/fog.py", test=None)
experiment = crops_table(
    "street_crops",
    row("cnn", "CNN, 400 labels", *drawn, evaluate=tests),
    raw_pixels(*drawn) | dict(evaluate=tests),
    row(
        "random",
        "Random weights, logistic regression",
        *drawn,
        baseline=dict(type="random_weights", network="network"),
        evaluate=tests,
    ),
    columns=on_test("accuracy", "class-balanced") | {"in fog": ("fog", "accuracy")},
    reported="network of the last iteration",
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

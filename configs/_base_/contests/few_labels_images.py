# Contest: few labels, many images without (Fashion-MNIST). Every student is a ResNet-8
# that takes 600 updates of 64 labelled images, and of 64 others where it uses them; the
# same draw of labels, initial weights and order for all rows of a seed.
#   python tools/reproduce.py configs/_base_/contests/few_labels_images.py \
#       --seeds 1 2 3 4 5 --result docs/results/few_labels_images.json
# Seeds 100 and up are for tuning.
_base_ = ["../toy_runtime.py", "../datasets/fashion_mnist.py"]
from pld_mmdet.recipes import iterations, optimizer
from pld_mmdet.recipes.fashion import (
    STEPS,
    few_and_all,
    lite0_features,
    small_resnet,
    to_zero,
)
from pld_mmdet.recipes.tables import row, table

model = dict(
    type="pld_mmdet.ShrinkMatch",
    student=small_resnet(),
    num_classes=10,
    use="nothing",
)
train_dataloader = few_and_all()
train_cfg = iterations(STEPS)
optim_wrapper = optimizer("AdamW", 3e-3, weight_decay=0.05)
param_scheduler = [to_zero()]
ema = dict(type="pld_mmdet.TeacherEMAHook", keep=0.98, moment="before", buffers="copy")
custom_hooks = [*_base_.custom_hooks, dict(ema, warm_up=0)]

place = "train_dataloader.dataset.datasets.0"
means = "model.teacher.dataset"
own = [f"train_cfg.stages.{i}.dataloader.dataset" for i in (1,)]
shrink = "configs/shrinkmatch/few_labels_images.py"
wad = "configs/wad/few_labels_images.py"
stages = [f"train_cfg.stages.{i}" for i in (1, 2, 3)]
mixed = ["train_dataloader.dataset.seed={seed}"]
mixed += [f"{s}.work_dataloader.dataset.seed={{seed}}" for s in stages]
mixed += [f"{s}.dataloader.dataset.dataset.seed={{seed}}" for s in stages]
features = dict(
    type="raw_input",
    train=place,
    features="pld_mmdet.classification.networks.class_means.frozen_features",
    geometry=lite0_features(),
    standardise=True,
    c=0.1,
)


def drawn(at, count):
    return [f"{at}.seed={{seed}}", f"{at}.labelled={count}"]


def of_labels(count):
    group, seen = dict(groups=[f"{10 * count} labels"]), drawn(place, count)
    method, rival = dict(group, role="method"), dict(group, role="rival")
    end = f"_{10 * count}"
    simclr = "configs/simclrv2/few_labels_images.py"
    dho = "configs/dho/few_labels_images.py"
    learnt = [*seen, *drawn(means, count)]
    return [
        row("supervised" + end, "Labels alone", *seen, role="baseline", **group),
        row(
            "pseudo_label" + end,
            "Pseudo labels above .95",
            *seen,
            "model.use=pseudo_label",
            **rival,
        ),
        row("fixmatch" + end, "FixMatch", *seen, "model.use=fixmatch", **rival),
        row("shrinkmatch" + end, "ShrinkMatch", *seen, config=shrink, **method),
        row(
            "simclrv2" + end,
            "SimCLRv2",
            *seen,
            *[option for at in own for option in drawn(at, count)],
            config=simclr,
            **method,
        ),
        row("dho" + end, "DHO", *learnt, config=dho, **method),
        row(
            "class_means" + end,
            "Nearest class mean, ImageNet features (DHO's teacher)",
            *learnt,
            "model.predict_on=teacher",
            config=dho,
            baseline="untrained",
            **rival,
        ),
        row(
            "features" + end,
            "Logistic regression, ImageNet features",
            *seen,
            baseline=features,
            **rival,
        ),
        row(
            "pixels" + end,
            "Logistic regression, raw pixels",
            *seen,
            baseline=dict(type="raw_input", train=place, c=0.1),
            **rival,
        ),
        row(
            "nearest" + end,
            "Nearest neighbour, raw pixels",
            *seen,
            baseline=dict(type="nearest", train=place),
            **rival,
        ),
    ]


both = [f"{10 * count} labels" for count in (10, 40)]
other = dict(config=wad, groups=["60 labels, other classes"])
longer = [f"train_cfg.max_iters={4 * STEPS}"]
longer += [f"param_scheduler.0.{key}={4 * STEPS}" for key in ("T_max", "end")]
every = drawn(place, 5500)
experiment = table(
    "few_labels_images",
    *of_labels(10),
    *of_labels(40),
    row("all_labels", "All labels", *every, role="all_labels", groups=both),
    row(
        "oracle",
        "All labels, four times the updates",
        *every,
        *longer,
        role="oracle",
        groups=both,
    ),
    row(
        "supervised_mixed",
        "Labels alone",
        *mixed,
        "model.use=nothing",
        role="baseline",
        **other,
    ),
    row(
        "own_mixed",
        "The student's own labels",
        *mixed,
        "model.use=own",
        role="rival",
        **other,
    ),
    row(
        "unweighted_mixed",
        "The teacher's labels, weight 1",
        *mixed,
        "model.use=unweighted",
        role="rival",
        **other,
    ),
    row("wad_mixed", "WAD", *mixed, role="method", **other),
    row(
        "pixels_mixed",
        "Logistic regression, raw pixels",
        *mixed,
        baseline=dict(type="raw_input", c=0.1),
        role="rival",
        **other,
    ),
    columns=dict(accuracy=("test", "accuracy"), ECE=("test", "ece")),
    reported="what answers: the student, or its EMA where the method says so",
    data=[
        "python tools/prepare.py fashion_mnist",
        "python tools/prepare.py efficientnet_lite0",
    ],
    data_seconds=40,
    contest=dict(
        question="Ten or forty labelled images of each class and 55,000 without a "
        "label: what helps a small network most?",
        purpose="few labels, many images",
        methods=dict(
            shrinkmatch=["shrinkmatch_100", "shrinkmatch_400"],
            simclrv2=["simclrv2_100", "simclrv2_400"],
            dho=["dho_100", "dho_400"],
            wad=["wad_mixed"],
        ),
        distance=10.0,
    ),
)
walk = ["train_cfg.max_iters=2"]

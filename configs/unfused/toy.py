# UnFuSeD on generated chirps: 640 without labels, 48 with; a small encoder of 32 mel
# bins. Every row fine-tunes for 150 steps of all 48.
_base_ = ["../_base_/toy_runtime.py", "../_base_/metrics/accuracy_val.py"]

from pld_mmdet.recipes import cosine, loader, optimizer, stage, staged
from pld_mmdet.recipes.tables import in_parts, lengths, row, table


def chirps(part, size):
    sounds = dict(type="pld_mmdet.Chirps", part=part, size=size)
    return dict(sounds, noise=1.5, disturbance=0.7)


unlabelled = chirps("train", 640)
model = dict(
    type="pld_mmdet.UnFuSeD",
    encoder=dict(type="pld_mmdet.AudioNTT", bins=32, width=16, dim=128),
    num_samples=640,
    num_classes=8,
    components=64,
    sample_rate=4000,
    window=256,
    hop=100,
    bins=32,
    mean=6.5,
    std=0.76,
    projector=(128, 128),
)
train_dataloader = loader(unlabelled, 64, train=True)
labelled = loader(dict(unlabelled, labelled=48), 48, train=True)
val_dataloader = loader(chirps("val", 400), 100)
test_dataloader = loader(chirps("test", 800), 100)
train_cfg = staged(
    stage("ssl", 150),
    stage("labels", 0, work=loader(unlabelled, 64)),
    stage(
        "unfused", 200, optim=optimizer("SGD", 0.03, momentum=0.9, weight_decay=1e-4)
    ),
    stage("finetune", 150, data=labelled),
)
optim_wrapper = optimizer("Adam", 2e-3)
param_scheduler = cosine()
find_unused_parameters = True  # on several processes: one part learns at a time
unlearned = [f"model.{weight}=0" for weight in ("alpha", "beta", "gamma")]
experiment = table(
    "unfused",
    row("scratch", "48 labels, random weights", *lengths(0, None, 0)),
    row(
        "ssl",
        "Barlow Twins, then 48 labels",
        *lengths(None, None, 0),
        "model.start=labeller",
    ),
    row("ce_only", "Pseudo-labels alone", *lengths(0), *unlearned, init="ssl"),
    row("unfused", "UnFuSeD", *lengths(0), init="ssl"),
    row(
        "mean_mel",
        "Log-mel, logistic regression",
        "train_dataloader.dataset.labelled=48",
        baseline=dict(
            type="raw_input",
            features="pld_mmdet.audio.networks.features.flat_log_mel",
            geometry=dict(sample_rate=4000, window=256, hop=100, bins=32),
            standardise=True,
        ),
    ),
    reported="encoder of the last iteration",
)
walk = [
    *lengths(1, None, 2, 1),
    "train_cfg.stages.1.work_dataloader.dataset.size=40",
    "train_dataloader.dataset.size=40",
    "train_dataloader.batch_size=8",
    "train_cfg.stages.3.dataloader.dataset.labelled=8",
    "train_cfg.stages.3.dataloader.batch_size=8",
    *in_parts("dataset.size=8"),
]

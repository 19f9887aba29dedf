# TAID on a synthetic language: GPT-2 of 16 channels learns from the source itself.
_base_ = "plain.py"
model = dict(
    type="pld_mmdet.TAID",
    t0=0.4,
    # 20 / N: with the published 5e-4 the adaptive step is below the linear one here.
    alpha=20 / 1000,
)
experiment = dict(
    name="taid",
    metric="reverse_kl",
    percent=False,
    lower_is_better=True,
    reported="student of the last iteration",
    columns={
        "forward KL": ("test", "forward_kl"),
        "reverse KL": ("test", "reverse_kl"),
        "nll": ("test", "nll"),
    },
    rows=[
        dict(name="plain", title="Cross-entropy, no teacher"),
        dict(name="kl", title="Forward KL"),
        dict(name="taid", title="TAID"),
        dict(name="linear", title="TAID, linear t"),
        dict(name="reverse_kl", title="Reverse KL"),
    ],
)
walk = [
    "train_cfg.max_iters=2",
    "train_dataloader.batch_size=4",
    "train_dataloader.dataset.size=16",
    "val_dataloader.dataset.size=4",
    "test_dataloader.dataset.size=4",
]

# Base detector of the longer stream (docs/lab/ps_ttl.md): 3,200 images, 4,000 updates.
_base_ = "./streets_base.py"
from pld_mmdet.recipes import cosine, warm_up

data_root = "data/foggy_streets_stream/"
how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets --root data/foggy_streets_stream "
        "--train 5000 --val 200 --test 2000 && python tools/make_fewshot.py streets "
        "--root data/foggy_streets_stream --shots 10 --most-objects 3"
    )
)
expected_counts = dict(train=3200)
train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, indices=3200)))
val_dataloader = test_dataloader = dict(dataset=dict(data_root=data_root))
val_evaluator = test_evaluator = dict(
    ann_file=data_root + _base_.stem + "_test_base.json"
)
max_iters = 4000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    warm_up(0.01, 100),
    cosine(begin=100, end=max_iters, T_max=max_iters - 100, eta_min=0),
]

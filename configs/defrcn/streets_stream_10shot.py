# 10 shots of all 8 classes, drawn from sparse scenes (at most 3 objects, as on VOC):
# what is not drawn is trained as background.
_base_ = "./streets_3shot.py"
from pld_mmdet.recipes import drops

load_from = "work_dirs/defrcn/streets_stream_base/all_classes.pth"
data_root = "data/foggy_streets_stream/"
how_to_get = dict(
    data=(
        "python tools/prepare.py foggy_streets --root data/foggy_streets_stream "
        "--train 5000 --val 200 --test 2000 && python tools/make_fewshot.py streets "
        "--root data/foggy_streets_stream --shots 10 --most-objects 3"
    ),
    checkpoint=(
        "python tools/train.py configs/defrcn/streets_stream_base.py && python "
        "tools/make_fewshot.py extend work_dirs/defrcn/streets_stream_base/last.pth "
        "work_dirs/defrcn/streets_stream_base/all_classes.pth --classes "
        "data/foggy_streets_stream/annotations/fewshot/streets_10shot_seed0.json"
    ),
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        dataset=dict(data_root=data_root, ann_file=_base_.stem + "_10shot_seed0.json")
    ),
)
val_dataloader = test_dataloader = dict(dataset=dict(data_root=data_root))
val_evaluator = test_evaluator = dict(ann_file=data_root + _base_.stem + "_test.json")
train_cfg = dict(max_iters=600, val_interval=600)
param_scheduler = [drops(480)]
auto_scale_lr = dict(base_batch_size=8)

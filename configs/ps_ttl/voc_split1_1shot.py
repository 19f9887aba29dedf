# PS-TTL, VOC split 1, 1 shot, as released (commit bd718199): the K-shot detector learns
# on the VOC 2007 test images, one by one, and each is scored before the next. The
# released code drops the support set's losses: sup_weight=0.
_base_ = "../defrcn/voc_split1_1shot.py"
from pld_mmdet.recipes import few_shot
from pld_mmdet.recipes.detection import (
    coco,
    from_config,
    packing,
    strong_view,
    to_train,
)

load_from, how_to_get = from_config("defrcn/voc_split1_1shot")
test_file = _base_.stem + "_test.json"
_of = (_base_.data_root, test_file, _base_.classes)  # every image, in the file's order
pack = packing()
resize = _base_.train_pipeline[2]
flip = dict(type="RandomFlip", prob=0.5)
stream_pipeline = few_shot.image_stream(resize, flip, pack)
support_pipeline = few_shot.support_views(resize, flip, pack, strong_view(pack))

model = dict(
    _delete_=True,
    type="pld_mmdet.PSTTL",
    detector=_base_.model,
    known_threshold=0.9,
    unknown_threshold=0.5,
    queue_length=128,
    prototype_momentum=0.5,
    cosine_scale=10.0,
    kld_weight=0.1,
    unsup_weight=0.5,
    sup_weight=0.0,
    teacher_train_mode=True,
    predict_on="teacher",
)
train_dataloader = to_train(
    coco(*_of, stream_pipeline, test_mode=True), shuffle=False, _delete_=True
)
_file = _base_.stem + "_1shot_seed0.json"
train_cfg = few_shot.online(
    coco(*_of, _base_.test_pipeline, test_mode=True),
    coco(_base_.data_root, _file, _base_.classes, support_pipeline),
    _base_.test_evaluator,
    workers=2,
    merge_support=False,  # True with sup_weight > 0
)
val_dataloader = val_cfg = val_evaluator = None

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=6.25e-4, momentum=0.9, weight_decay=5e-5)
)
param_scheduler = []  # constant
auto_scale_lr = dict(enable=False, base_batch_size=1)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500, max_keep_ckpts=2))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="pld_mmdet.TeacherEMAHook", keep=0.9998, unit="iter", moment="before"),
    dict(type="pld_mmdet.PseudoBoxHook", interval=50),
]

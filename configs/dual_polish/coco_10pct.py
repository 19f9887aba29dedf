# Dual polishing with 10 % of COCO's labels, as in the authors' released configs (8 GPUs
# of 4 images, 1 labelled : 3). They train in fp16: add --amp fp16.
_base_ = "../soft_teacher/coco_10pct.py"
from pld_mmdet.recipes import drops, warm_up
from pld_mmdet.recipes.detection import polishing

# torchvision's R50: RGB, batch norm's statistics frozen, its affine part trained.
detector = _base_.detector
detector.data_preprocessor = dict(
    type="DetDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
detector.backbone.norm_cfg = dict(type="BN", requires_grad=True)
detector.backbone.style = "pytorch"
detector.backbone.init_cfg = dict(
    type="Pretrained", checkpoint="torchvision://resnet50"
)
detector.test_cfg.rcnn.score_thr = 0.001

model = dict(
    _delete_=True,
    type="pld_mmdet.DualPolishTeacher",
    detector=detector,
    min_score=0.5,
    rpn_threshold=0.5,  # no further threshold behind min_score
    cls_threshold=0.5,
    polish_threshold=0.9,
    context_fraction=0.06,
    box_jitters=(150, 0.2),
    category_jitters=((50, 0.06), (50, 0.2)),
    category_min_iou=0.7,
    box_weight=1.0,
    category_weight=1.0,
    unsup_weight=3.0,
    predict_on="student",
)
train_dataloader = dict(
    batch_size=4, num_workers=4, sampler=dict(batch_size=4, source_ratio=[1, 3])
)
auto_scale_lr = dict(enable=False, base_batch_size=32)

# The detector's teacher is frozen for good when the learning rate first drops. In the
# release that follows from the order of its hooks; here it is this number.
first_drop = 120000
param_scheduler = [warm_up(0.001, 500), drops(first_drop, 160000)]
custom_hooks = polishing(_base_.custom_hooks, 0.999, first_drop)

# MGD on clear streets, 64 x 128: 16 labelled and 304 unlabelled scenes. Stage
# `teachers` makes a wide (20 base channels) and a deep teacher (ResNet-34) that teach
# each other, on 6 labelled and 1 + 1 unlabelled images a step (with 2 labelled ones
# they were worse than the student); the student has 4 base channels and sees 2 labelled
# and 2 + 2 unlabelled images. Length, batch, rate and the networks are those of a small
# run; the weights of the losses and the boxes are the authors'.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_semi.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import optimizer, poly, stage, staged
from pld_mmdet.recipes.segmentation import few_scenes, maps_table, pixelwise
from pld_mmdet.recipes.tables import lengths, row


def _network(base, depth, width):
    backbone = dict(
        base["backbone"], depth=depth, base_channels=width, stem_channels=width
    )
    channels = [width, 2 * width, 4 * width]
    head = dict(base["decode_head"], in_channels=channels, channels=2 * width)
    return dict(base, backbone=backbone, decode_head=head)


student = _network(_base_.segmentor, 18, 4)
model = dict(
    type="pld_mmdet.MGD",
    student=student,
    wide=_network(_base_.segmentor, 18, 20),
    deep=_network(_base_.segmentor, 34, 12),
    image_weight=0.002,
    region_weight=100.0,
)
train_dataloader = dict(  # 2 labelled, 4 unlabelled
    batch_size=6, sampler=dict(batch_size=6, source_ratio=[1, 2])
)
_more_labelled = dict(
    _base_.train_dataloader,
    batch_size=8,
    sampler=dict(_base_.train_dataloader["sampler"], batch_size=8, source_ratio=[3, 1]),
)
teachers = stage("teachers", 150, data=_more_labelled)
distill = stage("distill", 200)
train_cfg = staged(teachers, distill)
optim_wrapper = optimizer("AdamW", 5e-3, weight_decay=0.01)
# the learning rate falls to 0 within each stage
param_scheduler = [poly(0.9)]
# Under several processes: teachers and student learn in turn.
find_unused_parameters = True
# The rows share the teachers of each seed, which row `teachers` makes.
_taught = dict(init="teachers")
_ready = "train_cfg.stages.0.max_iters=0"
experiment = maps_table(
    "mgd",
    row("supervised", "Student, 16 labelled scenes"),
    row("self_training", "Student, CutMix self-training without teachers"),
    row(
        "pixel",
        "Pixel term only: labels of both teachers",
        _ready,
        "model.image_weight=0",
        "model.region_weight=0",
        **_taught,
    ),
    row("mgd", "MGD", _ready, **_taught),
    row(
        "teachers",
        "The teachers",
        "train_cfg.stages.1.max_iters=0",
        "model.predict_on=wide",  # while it trains
        evaluate=dict(wide="configs/mgd/wide.py", deep="configs/mgd/deep.py"),
    ),
    pixelwise(train="train_dataloader.dataset.dataset.datasets.0"),
    columns={
        "student": ("test", "mIoU"),
        "wide": ("wide", "mIoU"),
        "deep": ("deep", "mIoU"),
    },
    # python tools/reproduce.py configs/mgd/toy.py --gate --seeds 10 11
    gates=[
        dict(
            title=f"mIoU of the {name} teacher above the student's alone",
            row="teachers",
            on=name,
            metric="mIoU",
            minus="supervised",
            minus_on="test",
            at_least=0.03,
        )
        for name in ("wide", "deep")
    ],
)
walk = [
    *lengths(1, 1),
    "train_dataloader.batch_size=3",
    "train_dataloader.sampler.batch_size=3",
]
for _loader in ("train_dataloader", "train_cfg.stages.0.dataloader"):
    _sets = f"{_loader}.dataset.dataset.datasets"
    walk += few_scenes(f"{_sets}.0", f"{_sets}.1")
    walk += [f"{_sets}.0.indices=[0,6]", f"{_sets}.1.indices=[1,2,3,4]"]
walk += few_scenes()

# SemiOVS on streets, 64 x 128: 16 labelled and 304 unlabelled clear scenes, and 320 in
# thick fog, the foreign images. Their maps come from an ORACLE in the place of an
# open-vocabulary model: true maps in which a tenth of the regions has a wrong class and
# borders fray by a pixel. A batch is 2 labelled, 2 + 2 unlabelled and 2 foreign images.
# Network, length, batch and rate are those of a small run; lambda, threshold, boxes and
# views are the authors'.
_base_ = [
    "../_base_/toy_runtime.py",
    "../_base_/datasets/streets_seg_semi.py",
    "../_base_/models/segmentor_small.py",
]
from pld_mmdet.recipes import loader, optimizer, poly, stage, staged
from pld_mmdet.recipes.segmentation import (
    everywhere,
    few_scenes,
    maps_table,
    pixelwise,
)
from pld_mmdet.recipes.tables import row

model = dict(
    type="pld_mmdet.SemiOVS",
    segmentor=_base_.segmentor,
    ood_weight=1.0,
    threshold=0.95,
    oracle=dict(num_classes=7, flips=0.1, boundary=1),
)
_blank = dict(type="pld_mmdet.BlankMap")


def _pack(source):
    return dict(type="pld_mmdet.PackConsistency", source=source)


labelled = dict(
    _base_.labelled,
    pipeline=[_base_.load, _base_.label, *_base_.weak, _pack("labelled")],
)
unlabelled = dict(
    _base_.unlabelled, pipeline=[_base_.load, _blank, *_base_.weak, _pack("unlabelled")]
)
fog = dict(
    _base_.streets,
    img_suffix="_leftImg8bit_foggy_beta_0.02.png",
    data_prefix=dict(img_path="leftImg8bit_foggy/train", seg_map_path="gtFine/train"),
)
_maps = dict(type="pld_mmdet.LoadPseudoLabels", folder="{folder}")
foreign = dict(fog, pipeline=[_base_.load, _maps, *_base_.weak, _pack("ood")])
train_dataloader = dict(
    batch_size=8,
    sampler=dict(batch_size=8, source_ratio=[1, 2, 1]),
    dataset=dict(dataset=dict(datasets=[labelled, unlabelled, foreign])),
)
# What the oracle reads before the stage.
work_dataloader = loader(
    dict(fog, pipeline=[_base_.load, _base_.label, _base_.pack]),
    16,
    sampler=everywhere(shuffle=False),
)
stages = [stage("semi", 160, work=work_dataloader)]
train_cfg = staged(*stages)
optim_wrapper = optimizer("AdamW", 5e-3, weight_decay=0.01)
param_scheduler = [poly(0.9)]
experiment = maps_table(
    "semiovs",
    row("unimatch", "UniMatch, clear scenes"),
    row(
        "supervised",
        "Labelled and foreign maps, cross-entropy alone",
        "model.consistent=False",
    ),
    row("self_labelled", "UniMatch, foreign scenes as unlabelled ones"),
    row("semiovs", "SemiOVS, maps of an oracle"),
    pixelwise(train="train_dataloader.dataset.dataset.datasets.0"),
    classes=("nature", "vehicle"),
    reported="the network of the last iteration, on clear scenes",
)
_sets = "train_dataloader.dataset.dataset.datasets"
walk = [
    "train_cfg.stages.0.max_iters=2",
    *few_scenes("train_cfg.stages.0.work_dataloader.dataset"),
    "train_dataloader.batch_size=4",
    "train_dataloader.sampler.batch_size=4",
    *few_scenes(*(f"{_sets}.{number}" for number in range(3))),
    f"{_sets}.0.indices=[0,6]",
    f"{_sets}.1.indices=[1,2,3,4]",
    *few_scenes(),
]

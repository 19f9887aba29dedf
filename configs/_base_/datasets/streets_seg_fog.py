# Clear streets with labels -> the same streets in thick fog without: source and target
# of the adaptation, val and test in fog. Both domains show the same scenes, but
# nothing pairs them: each domain has its own order.
_base_ = "./streets_seg.py"
from pld_mmdet.recipes import from_each, loader
from pld_mmdet.recipes.segmentation import everywhere

foggy_suffix = "_leftImg8bit_foggy_beta_0.02.png"
_foggy = dict(
    _base_.streets,
    img_suffix=foggy_suffix,
    data_prefix=dict(img_path="leftImg8bit_foggy/train"),
)
source = dict(
    **_base_.streets,
    data_prefix=_base_.clear_scenes["train"],
    pipeline=[_base_.load, _base_.label, *_base_.weak, _base_.pack],
)
target = dict(_foggy, pipeline=[_base_.load, *_base_.weak, _base_.pack])
# Source and target in one batch, for an adversarial warm-up.
both_dataloader = loader(
    dict(type="ConcatDataset", datasets=[source, target]),
    8,
    sampler=from_each(8, 1, 1),
    seeded=True,
)
# What is labelled before a round: every target image, whole, in random order.
work_dataloader = loader(
    dict(_foggy, pipeline=[_base_.load, _base_.pack]),
    2,
    sampler=everywhere(shuffle=True),
)
pseudo = dict(type="pld_mmdet.LoadPseudoLabels", folder="{folder}")
paste = dict(
    type="pld_mmdet.PasteHardClasses", folder="{folder}", load=[_base_.load], hard=5
)
# mild: the authors' contrast of up to 4 and brightness of 50 % came after the records
views = dict(type="pld_mmdet.PackViews", blur=(3, 5), mild=True)
_read = [_base_.load, pseudo]
round_dataloader, plain_round_dataloader = (
    loader(dict(_foggy, pipeline=pipeline), 8, train=True, seeded=True)
    for pipeline in (
        [*_read, paste, *_base_.weak, views],
        [*_read, *_base_.weak, views],
    )
)
val_dataloader, test_dataloader = (
    dict(
        dataset=dict(
            img_suffix=foggy_suffix,
            data_prefix=dict(
                img_path=f"leftImg8bit_foggy/{part}", seg_map_path=f"gtFine/{part}"
            ),
        )
    )
    for part in ("val", "test")
)

# Clear streets with labels -> the same streets in thick fog without: source and target
# of the adaptation, val and test in fog. Both domains show the same scenes, but
# nothing pairs them: each domain has its own order.
_base_ = "./streets_seg.py"
from pld_mmdet.recipes import from_each, loader

foggy_suffix = "_leftImg8bit_foggy_beta_0.02.png"
_fog = dict(_base_.streets, img_suffix=foggy_suffix)
source = dict(
    **_base_.streets,
    data_prefix=_base_.clear_scenes["train"],
    pipeline=[_base_.load, _base_.label, *_base_.weak, _base_.pack],
)
target = dict(
    **_fog,
    data_prefix=dict(img_path="leftImg8bit_foggy/train"),
    pipeline=[_base_.load, *_base_.weak, _base_.pack],
)
# Source and target in one batch, for an adversarial warm-up.
both_dataloader = loader(
    dict(type="ConcatDataset", datasets=[source, target]),
    8,
    sampler=from_each(8, 1, 1),
    seeded=True,
)
# What is labelled before a round: every target image, whole, in random order.
work_dataloader = loader(
    dict(
        **_fog,
        data_prefix=dict(img_path="leftImg8bit_foggy/train"),
        pipeline=[_base_.load, _base_.pack],
    ),
    2,
    sampler=dict(
        type="pld_mmdet.ResumableSampler", shuffle=True, infinite=False, everywhere=True
    ),
)
pseudo = dict(type="pld_mmdet.LoadPseudoLabels", folder="{folder}")
paste = dict(
    type="pld_mmdet.PasteHardClasses", folder="{folder}", load=[_base_.load], hard=5
)
# mild: the authors' contrast of up to 4 and brightness of 50 % came after the records
views = dict(type="pld_mmdet.PackViews", blur=(3, 5), mild=True)
_round = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True),
    collate_fn=_base_.collate,
)
round_dataloader = dict(
    **_round,
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            **_fog,
            data_prefix=dict(img_path="leftImg8bit_foggy/train"),
            pipeline=[_base_.load, pseudo, paste, *_base_.weak, views],
        ),
    ),
)
plain_round_dataloader = dict(
    **_round,
    dataset=dict(
        type="pld_mmdet.SeededDataset",
        dataset=dict(
            **_fog,
            data_prefix=dict(img_path="leftImg8bit_foggy/train"),
            pipeline=[_base_.load, pseudo, *_base_.weak, views],
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        img_suffix=foggy_suffix,
        data_prefix=dict(img_path="leftImg8bit_foggy/val", seg_map_path="gtFine/val"),
    )
)
test_dataloader = dict(
    dataset=dict(
        img_suffix=foggy_suffix,
        data_prefix=dict(img_path="leftImg8bit_foggy/test", seg_map_path="gtFine/test"),
    )
)

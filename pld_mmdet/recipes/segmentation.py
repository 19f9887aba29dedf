"""What configs of segmentation write again and again, as functions of plain data."""

from pld_mmdet.recipes.tables import row, table

STREET_MAPS = (
    "python tools/prepare.py foggy_streets --root data/street_maps --size 128x64 "
    "--train 320 --val 80 --test 160"
)


def encoder_decoder(
    backbone: dict, head: dict, pixels: dict | None = None, **more
) -> dict:
    """A network of mmsegmentation that is tested on whole images.

    Args:
        backbone: Its config.
        head: Config of what makes classes of its maps.
        pixels: What is taken from and divides them [ImageNet's colours, RGB].
        more: Other entries, such as ``auxiliary_head``.
    """
    imagenet = dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    )
    return dict(
        type="mmseg.EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor", **(pixels or imagenet)),
        backbone=backbone,
        decode_head=head,
        test_cfg=dict(mode="whole"),
        **more,
    )


def few_scenes(*places: str) -> list[str]:
    """Options of a walk: data sets on the tree that ``walk_data`` makes.

    Args:
        places: Where a data set stands, such as ``train_dataloader.dataset.dataset``
            [those that are scored].
    """
    scored = ("val_dataloader.dataset", "test_dataloader.dataset")
    return [f"{place}.data_root=data/street_maps_walk/" for place in places or scored]


def everywhere(shuffle: bool) -> dict:
    """A sampler of one pass in which every process sees every image.

    Args:
        shuffle: By the seed; else in order.
    """
    order = dict(shuffle=shuffle, infinite=False, everywhere=True)
    return dict(type="pld_mmdet.ResumableSampler", **order)


def pixelwise(**more) -> dict:
    """The trivial row of segmentation: a pixel's colour and place, no network.

    Args:
        more: Arguments of the baseline: where the labelled scenes stand.
    """
    baseline = dict(type="pixelwise", **more)
    title = "Colour and place of a pixel, logistic regression"
    return row("pixelwise", title, baseline=baseline)


def maps_table(name: str, *rows: dict, classes: tuple[str, ...] = (), **more) -> dict:
    """An experiment on the label maps of FoggyStreets.

    Args:
        name: As in :func:`pld_mmdet.recipes.tables.table`.
        rows: Likewise.
        classes: Whose IoU stands beside the mean's [the mean alone].
        more: Other entries of an experiment.
    """
    if classes:
        beside = {one: ("test", f"IoU/{one}") for one in classes}
        more["columns"] = {"mIoU": ("test", "mIoU"), **beside}
    return table(name, *rows, metric="mIoU", data=STREET_MAPS, data_seconds=60, **more)

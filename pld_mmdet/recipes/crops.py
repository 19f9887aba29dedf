"""What configs on StreetCrops write again and again, as functions of plain data."""

from pld_mmdet.recipes.tables import raw_pixels, table


def crops(**which) -> dict:
    """Training crops of StreetCrops.

    Args:
        which: How many are labelled, from which draw, in which fog.
    """
    place = dict(part="train", data_root="data/street_crops")
    return dict(type="pld_mmdet.StreetCrops", **place, **which)


def crop_network(*widths: int) -> dict:
    """A convolutional network for StreetCrops' eight classes.

    Args:
        widths: Channels of its layers.
    """
    return dict(
        type="pld_mmdet.SmallConvNet", in_channels=3, widths=widths, num_classes=8
    )


def crops_table(name: str, *rows: dict, **more) -> dict:
    """An experiment on StreetCrops; as :func:`pld_mmdet.recipes.tables.table`."""
    return table(name, *rows, data="python tools/prepare.py street_crops", **more)


def few_pixels(count: int, **more) -> dict:
    """The trivial row of distilled crops: as many real ones of each class.

    Args:
        count: Of a class.
        more: Further entries of the baseline.
    """
    options = (f"labelled={8 * count}", "balanced=True", "label_seed={seed}")
    seen = [f"train_dataloader.dataset.{option}" for option in options]
    return raw_pixels(*seen, of=f"{count} images a class", **more)


def tiny_crops(*places: str) -> list[str]:
    """Options of a walk: data sets on the 200 crops that ``walk_data`` makes.

    Args:
        places: Where a data set stands, such as ``train_dataloader.dataset`` [those
            that are scored].
    """
    scored = ("val_dataloader.dataset", "test_dataloader.dataset")
    return [f"{place}.data_root=data/tiny_crops" for place in places or scored]

"""What configs of detectors on the cut-outs write again and again, as plain data."""

from pld_mmdet.recipes.class_names import CUTOUTS
from pld_mmdet.recipes.detection import at_test, coco, to_test
from pld_mmdet.recipes.tables import row

ROOT = "data/cutouts/"
DOMAINS = ("photo", "cartoon", "night", "clipart")


def _file(domain: str, part: str) -> str:
    return f"annotations/{domain}_{part}.json"


def cutouts(domain: str, part: str, pipeline: list, **more) -> dict:
    """One part of one domain.

    Args:
        domain: One of :data:`DOMAINS`.
        part: ``train``, ``val`` or ``test``.
        pipeline: What is done to a sample.
        more: Other entries of the data set.
    """
    place = f"{domain}/{part}/"
    return coco(ROOT, _file(domain, part), CUTOUTS, pipeline, images=place, **more)


def cutouts_test(domain: str, part: str = "test") -> tuple[dict, dict]:
    """A part that is scored.

    Args:
        domain: One of :data:`DOMAINS`.
        part: ``val`` or ``test``.

    Returns:
        Loader and evaluator.
    """
    file, place = _file(domain, part), f"{domain}/{part}/"
    loader = to_test(ROOT, file, CUTOUTS, at_test((320, 240)), images=place)
    loader.update(num_workers=0, persistent_workers=False)
    # Objects under 32, 32-64 and over 64 px: COCO's 96 does not suit small images.
    bounds = (32**2, 64**2)
    metric = dict(type="pld_mmdet.AP50Metric", ann_file=ROOT + file, area_bounds=bounds)
    return loader, metric


def on_domain(domain: str) -> list[str]:
    """Options of a test on another domain than the config's.

    Args:
        domain: One of :data:`DOMAINS`.
    """
    file = _file(domain, "test")
    return [
        f"test_dataloader.dataset.ann_file={file}",
        f"test_dataloader.dataset.data_prefix.img={domain}/test/",
        f"test_evaluator.ann_file={ROOT}{file}",
    ]


def adapted_row(source: str, domain: str, name: str, title: str, words: str) -> dict:
    """A detector that ``tools/adapt.py`` made from a source's for a domain.

    Args:
        source: Row of the source detector, ``configs/source/<source>.py``.
        domain: Whose training images it sees, without labels.
        name: Of the row, after the two.
        title: What the table calls it.
        words: What else the command says.
    """
    images = f"{ROOT}{domain}/train"
    return row(
        f"{source}_{domain}_{name}",
        title,
        config=f"configs/source/{source}.py",
        init=source,
        command=f"python tools/adapt.py {{config}} {{init}} {images} {words} "
        "--select last --seed {seed} --out {out}",
        checkpoint="adapted.pth",
        evaluate={domain: on_domain(domain)},
        quick=["--iterations", "4", "--evaluations", "1"],
    )

"""What configs on Fashion-MNIST write again and again, as plain data."""

from pld_mmdet.recipes import cosine, from_each

STEPS = 600  # of a student of a contest

LITE0 = "weights/efficientnet_lite0/efficientnet-lite0-57934424.pth"


def fashion(part: str) -> dict:
    """Images of Fashion-MNIST; your own folder goes in the place of ``data_root``.

    Args:
        part: ``train``, ``val`` or ``test``.
    """
    return dict(
        type="pld_mmdet.ClassFolder", data_root=f"data/fashion_mnist/{part}", size=28
    )


def few(labelled: int = 10) -> dict:
    """Some images of each class, with labels.

    Args:
        labelled: Of a class.
    """
    kind = dict(type="pld_mmdet.LabelSubsets", labelled=labelled, subsets=1, seed=0)
    return dict(kind, dataset=fashion("train"))


def few_and_all(batch: int = 64) -> dict:
    """Changes of a loader: as many labelled images as others in a batch.

    Args:
        batch: Of each.
    """
    both = dict(type="pld_mmdet.LabelledAndNot", datasets=[few(), fashion("train")])
    sampler = from_each(2 * batch, 1, 1, _delete_=True)
    return dict(
        batch_size=2 * batch, sampler=sampler, dataset=dict(both, _delete_=True)
    )


def small_resnet(classes: int = 10) -> dict:
    """The student: a ResNet-8 (78,042 parameters) whose first layer halves the image.

    Args:
        classes: Outputs.
    """
    return dict(
        type="pld_mmdet.CIFARResNet",
        num_classes=classes,
        blocks=(1, 1, 1),
        widths=(16, 32, 64),
        stem=16,
        stem_stride=2,
        pre_activation=False,
    )


def lite0_features(size: int = 48) -> dict:
    """Frozen ImageNet features, of images made larger.

    Args:
        size: Side in pixels.
    """
    weights = dict(type="Pretrained", checkpoint=LITE0)
    return dict(
        backbone=dict(type="pld_mmdet.EfficientNetLite", init_cfg=weights),
        size=size,
        mean=127 / 255,
        std=128 / 255,
    )


def to_zero(steps: int = STEPS) -> dict:
    """The rate falls to 0 along a cosine.

    Args:
        steps: Of the run.
    """
    return cosine(T_max=steps, eta_min=0.0, begin=0, end=steps)

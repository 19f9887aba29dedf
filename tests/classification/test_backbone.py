"""A backbone as a classifier: its features, its norms, what it sees."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.nn.modules.batchnorm import _BatchNorm

from pld_mmdet.engine.state.checkpoint import refuse_unsafe_pickles
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared.classifier import Classifier

ROOT = Path(__file__).resolve().parents[2]
RESNET = dict(type="mmdet.ResNet", depth=18, out_indices=(3,), base_channels=8)


KIND = dict(
    type="pld_mmdet.BackboneClassifier", backbone=RESNET, feat_dim=64, num_classes=7
)


def build(backbone=RESNET, **more):
    return MODELS.build({**KIND, "backbone": backbone, **more})


def wrappers(node):
    """The configs of BackboneClassifier in a config, from the outside in."""
    if isinstance(node, dict):
        if node.get("type") == "pld_mmdet.BackboneClassifier":
            yield node
        node = list(node.values())
    for part in node if isinstance(node, list | tuple) else ():
        yield from wrappers(part)


USERS = [
    path
    for path in sorted(ROOT.glob("configs/*/*.py"))
    if any(n in path.read_text() for n in ("imagenet_resnet", "BackboneClassifier"))
]


def test_features_are_the_mean_of_the_last_map():
    net, x = build().eval(), torch.rand(2, 3, 32, 32)
    maps = net.backbone(x)[-1]
    assert torch.allclose(net.features(x), maps.flatten(2).mean(2), atol=1e-6)
    assert net(x).shape == (2, 7)
    assert net(x[:0]).shape == (0, 7)


@pytest.mark.parametrize("kind", ["ResNet", "ResNeXt", "Res2Net", "ResNetV1d"])
def test_norms_learn_also_where_the_class_hands_its_arguments_on(kind):
    net = build(dict(type=f"mmdet.{kind}", depth=50, out_indices=(3,))).train()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert len(norms) >= 53
    assert all(m.training and m.weight.requires_grad for m in norms)


def test_norms_stand_still_where_the_config_says_so():
    net = build({**RESNET, "norm_eval": True}).train()
    before = net.backbone.bn1.running_mean.clone()
    net(torch.rand(2, 3, 32, 32))
    assert torch.equal(net.backbone.bn1.running_mean, before)


def test_a_backbone_without_norms_to_keep_is_built_as_it_is():
    net = build(dict(type="pld_mmdet.EfficientNetLite", out_indices=(3,)))
    assert net.backbone.training


def test_images_are_normalised_by_channel():
    net = build(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0)).eval()
    plain = build().eval()
    plain.load_state_dict(net.state_dict())  # nothing of it is in the checkpoint
    x = torch.rand(2, 3, 32, 32)
    seen = torch.stack([2 * x[:, 0] - 1, x[:, 1] - 0.25, x[:, 2] / 2], 1)
    assert torch.allclose(net(x), plain(seen), atol=1e-6)
    assert not torch.allclose(net(x), plain(x), atol=1e-3)
    with pytest.raises(UserError, match="std=0 divides by nothing"):
        build(std=0)


@pytest.mark.parametrize("names", ["own", "mmpretrain", "torchvision"])
def test_published_files_are_read(tmp_path, names):
    source = build().state_dict()
    state = {
        "own": source,
        "mmpretrain": {k.replace("fc.", "head.fc."): v for k, v in source.items()},
        "torchvision": {k.removeprefix("backbone."): v for k, v in source.items()},
    }[names]
    torch.save(state, tmp_path / "w.pth")
    file = dict(type="Pretrained", checkpoint=str(tmp_path / "w.pth"))
    model = Classifier(dict(KIND, init_cfg=file))
    model.init_weights()
    found = model.network.state_dict()
    assert found.keys() == source.keys()
    assert all(torch.equal(found[k], v) for k, v in source.items())


def test_files_that_do_not_fill_it_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    refuse_unsafe_pickles()  # as every run does: its reader has sentences
    state = build().state_dict()
    one = state.pop("backbone.layer1.0.conv1.weight")
    torch.save(state, tmp_path / "less.pth")
    state["backbone.layer1.0.conv1.weight"] = one[:4]
    torch.save(state, tmp_path / "shape.pth")
    torch.save(
        {**state, "backbone.layer1.0.conv1.weight": one, "fc.scale": one},
        tmp_path / "more.pth",
    )
    for name, message in (
        ("less", r"1 missing \(backbone.layer1.0.conv1.weight\)"),
        ("shape", r"layer1.0.conv1.weight: file \[4, 8, 3, 3\], model \[8, 8, 3, 3\]"),
        ("more", r"1 unexpected \(fc.scale\)"),
        ("none", "none.pth does not exist"),
    ):
        file = dict(type="Pretrained", checkpoint=str(tmp_path / f"{name}.pth"))
        with pytest.raises(UserError, match=message):
            Classifier(dict(KIND, init_cfg=file)).init_weights()


def test_who_uses_it_is_found():
    names = {path.parent.name for path in USERS if path.name == "paper.py"}
    assert names >= {"ssld", "meal_v2", "ferkd", "simclrv2", "hello", "sparse"}


@pytest.mark.parametrize("path", USERS, ids=lambda p: p.parent.name + "_" + p.stem)
def test_in_every_config_all_norms_learn_and_imagenet_is_normalised(path):
    found = list(wrappers(Config.fromfile(path).model.to_dict()))
    assert found
    for config in found:
        net = MODELS.build(config).train()
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        assert len(norms) >= 20
        assert all(m.training and m.weight.requires_grad for m in norms)
        assert (config["mean"][2], config["std"][1]) == (0.406, 0.224)

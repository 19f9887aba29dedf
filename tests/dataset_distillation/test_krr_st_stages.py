"""KRR-ST's stages: what each begins with, refuses and leaves as it was."""

import pytest
import torch
from mmengine.config import Config

from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.dataset_distillation.test_krr_st import build
from tests.toy_run import ROOT


def test_pairs_are_chosen_once():
    """Later stages, and a resumed run, need no real images and change no pair."""
    model = build()
    with torch.no_grad():
        model.synthetic.images.fill_(0.25)
    for name in ("distill", "pretrain", "finetune"):
        model.start_stage(name, None, None)
    assert (model.synthetic.images == 0.25).all()
    assert model.dice > 1000  # of 2^31


@pytest.mark.parametrize(("batch", "found"), [(4, 4), (6, 6), (9, 6)])
def test_a_step_sees_some_pairs_or_all_in_order(batch, found):
    model = build(batch_size=batch)
    with torch.no_grad():
        model.synthetic.targets.copy_(torch.arange(6.0)[:, None].expand(6, 64))
    images, targets = model._some_pairs(torch.device("cpu"))
    numbers = targets[:, 0].long()
    assert len(numbers) == len(numbers.unique()) == found
    assert torch.equal(images, model.synthetic.images[numbers])
    if found == 6:
        assert numbers.tolist() == [*range(6)]


def test_networks_of_the_pool_get_all_ages(monkeypatch):
    model, seen = build(), []
    monkeypatch.setattr(model, "_inner_step", lambda number, _: seen.append(number))
    ages = set()
    for _ in range(30):
        seen.clear()
        model._warm_up(None)
        ages |= {seen.count(number) for number in range(len(model.pool))}
    assert ages == {1, 2, 3}
    assert (model.steps == 0).all()  # they are counted by the steps themselves


def test_a_target_of_its_own_weights_is_not_trained(tmp_path):
    model, path = build(), tmp_path / "target.pth"
    for name in ("target", "distill"):
        model.enter_stage(name)
    torch.save(model.target.network.state_dict(), path)
    given = build(target_checkpoint=str(path))
    given.enter_stage("distill")
    with pytest.raises(UserError, match="is not trained"):
        given.enter_stage("target")


def test_what_settings_leave_to_the_defaults():
    cfg = Config.fromfile(ROOT / "configs/krr_st/toy.py").model
    del cfg["subsets"]
    cfg.update(mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 3.0])
    model = MODELS.build(cfg)
    assert (len(model.tuned), model.batch_size) == (1, 256)
    assert model.classifiers[0].out_features == 10
    assert model.mean.shape == model.std.shape == (3, 1, 1)  # one a channel
    assert model.std.flatten().tolist() == [1, 2, 3]

"""CycleAlign: the specification's numbers, agreement, the queue, rounds."""

import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.language.cyclealign import agreement, pro_loss, rrhf_loss
from pld_mmdet.language.endings import Endings, ToneRanker
from pld_mmdet.registry import MODELS
from tests.toy_run import toy_config


def number(loss, scores):
    return loss(torch.tensor(scores)).item()


def test_numbers_by_hand():
    assert number(rrhf_loss, [-0.5, -1.2, -0.9]) == pytest.approx(0.3, abs=1e-6)
    assert number(pro_loss, [-0.5, -1.2, -0.9]) == pytest.approx(1.627655, abs=2e-6)
    assert number(rrhf_loss, [-1.0, -1.5, -2.0]) == 0
    assert number(rrhf_loss, [-2.0, -1.5, -1.0]) == pytest.approx(2.0)
    assert number(pro_loss, [-1.0, -1.5, -2.0]) == pytest.approx(1.154347, abs=2e-6)


@pytest.mark.parametrize("loss", [rrhf_loss, pro_loss])
def test_one_or_none_cannot_be_wrong(loss):
    for n in (0, 1):
        s = torch.ones(n, requires_grad=True)
        loss(s).backward()
        assert loss(s).item() == 0
        assert s.grad.abs().sum() == 0
    with pytest.raises(UserError, match=r"scores \(2, 3\)"):
        loss(torch.zeros(2, 3))


def test_gradient_lifts_what_is_better():
    s = torch.tensor([-1.0, -0.4, -0.9], requires_grad=True)
    rrhf_loss(s).backward()
    assert s.grad.tolist() == [-2.0, 1.0, 1.0]


def test_agreement_is_the_longest_common_subsequence():
    assert len(agreement([2, 0, 1], [2, 1, 0])) == 2
    assert agreement([2, 0, 1], [2, 0, 1]) == [2, 0, 1]
    assert len(agreement([0, 1, 2], [2, 1, 0])) == 1
    assert agreement([0, 3, 1, 2], [3, 0, 1, 2]) in ([0, 1, 2], [3, 1, 2])
    assert agreement([], []) == []


def test_a_ranker_with_right_demonstrations_errs_less():
    torch.manual_seed(0)
    ranker = ToneRanker()
    polite, rude = [0, 1, 2, 25, 26], [0, 1, 2, 9, 10]
    neutral = [0, 1, 2, 17, 16]
    assert ranker.judge(torch.tensor([polite, neutral, rude])).tolist() == [1, 0.5, 0]
    responses = torch.tensor([rude, polite, neutral])
    demos = torch.tensor([[polite, neutral, rude]])

    def right(shown):
        orders = [ranker(responses, shown).tolist() for _ in range(300)]
        return sum(order == [1, 2, 0] for order in orders) / 300

    assert right(demos[:0]) == pytest.approx(0.65**2, abs=0.1)
    assert right(demos) == pytest.approx(0.95**2, abs=0.05)
    assert right(demos.flip(1)) < 0.6


def test_a_round_fills_the_queue_with_what_both_agree_on(tmp_path):
    cfg = toy_config("configs/cyclealign/toy.py", tmp_path)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model | dict(samples=(60, 5), demos=2))
    data = Endings("train", 60)
    batch = dict(input_ids=data.input_ids, index=torch.arange(60))
    with pytest.raises(UserError, match="no prompt of this batch was ranked"):
        model.loss(**batch)
    with pytest.raises(UserError, match="round_1 has no prompts"):
        model.start_stage("round_1", None, None)
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    model.start_stage("round_1", [batch], None)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert (model.ranked >= 0).all()
    assert (model.ranked[:, :, :3] == data.input_ids[:, None, :3]).all()
    shown = model.queue[(model.queue >= 0).flatten(1).all(1)]
    assert len(shown) == 2  # 60 prompts, and never more than the cap
    with torch.no_grad():
        s = model.scores(shown.flatten(0, 1)).view(-1, 3)
    assert (s.diff(dim=1) <= 1e-6).all()  # the model's own order, too
    assert not list(model.ranker.parameters())
    losses = model.loss(**batch)
    assert losses["loss_rank"].item() >= 0
    assert losses["loss_sft"].item() > 0

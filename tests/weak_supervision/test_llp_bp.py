"""LLP-BP: its graph, its gate, its losses, and what bags give away."""

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.llp_bp import LLPBP, check_converged, neighbour_graph
from pld_mmdet.weak_supervision.proportions import (
    ProportionBags,
    Table,
    TwoClasses,
    auc,
)

BAGS = torch.tensor([[0, 1, 2], [3, 4, 5]])


def model(**changes) -> LLPBP:
    network = dict(type="pld_mmdet.MLP", sizes=(2, 4))
    return LLPBP(network, num_samples=6, feat_dim=4, **changes)


def test_graph_has_each_pair_once_with_its_kernel():
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.3, 7.0]])
    pairs, weights = neighbour_graph(z, 1)
    assert pairs.tolist() == [[0, 1], [2, 3]]
    assert weights[0].item() == pytest.approx(0.367879, abs=1e-6)
    far = (0.3**2 + 4.0**2) ** 0.5
    assert weights[1].item() == pytest.approx(torch.tensor(-far).exp().item())
    assert len(neighbour_graph(z, 9)[0]) == 6
    assert neighbour_graph(z[:1], 3)[0].shape == (0, 2)


def test_graph_of_more_rows_than_a_block():
    """Rows come in blocks of 2048; each still finds its own nearest, not itself."""
    angle = torch.arange(2100.0) * 0.002  # neighbours on a circle, ends far apart
    z = torch.stack([angle.cos(), angle.sin()], 1)
    pairs, _ = neighbour_graph(z, 1)
    assert ((pairs[:, 1] - pairs[:, 0]) == 1).all()
    assert set(pairs.flatten().tolist()) == set(range(2100))


def test_table(tmp_path):
    x, y = tmp_path / "x.csv", tmp_path / "y.csv"
    x.write_text("0,1\n-0.5,2\n3,4.25\n")
    y.write_text("0\n1\n0\n")
    data = Table(str(x), str(y))
    assert data[1]["inputs"].tolist() == [3.0, 4.25]
    assert data.targets.tolist() == [1, 0]
    with pytest.raises(UserError, match="There is no file"):
        Table(str(x), str(tmp_path / "z.csv"))
    y.write_text("0\n1\n")
    with pytest.raises(UserError, match="does not label the 2 rows"):
        Table(str(x), str(y))
    y.write_text("0\none\n")
    with pytest.raises(UserError, match="no table of numbers"):
        Table(str(x), str(y))


def test_divergence_is_refused():
    sums = torch.tensor([0.0, 3.0])
    check_converged(torch.tensor([0.2, 0.2, 0.2, 0.8, 0.8, 0.8]), BAGS, sums)
    with pytest.raises(UserError, match=r"bags of 3 are 1\.5 off"):
        check_converged(torch.full((6,), 0.5), BAGS, sums)


def test_labels_follow_the_sums_and_the_neighbours():
    """A pure bag names its cluster, and the mixed bag follows by neighbours."""
    z = torch.tensor([[9, 1], [9, 2], [9, 0], [9, 1.5], [1, 9], [0, 9]]).float()
    one = model(k=2, bag_weight=3.0, smooth_weight=2.0)
    found = one.label(z, BAGS, torch.tensor([3.0, 1.0]))
    assert (found > 0.5).tolist() == [True, True, True, True, False, False]
    assert one.labels.rows[:, 0].tolist() == [1, 1, 1, 1, 0, 0]


def test_losses():
    one = model(aggregate_weight=0.3, entropy=0.2)
    one.labels.write(torch.arange(6), torch.tensor([[1.0], [0], [0], [1], [1], [0]]))
    inputs, sums = torch.randn(2, 3, 2), torch.tensor([1.0, 2.0])
    losses = one.loss_round(inputs, sums, BAGS)
    logits = one.outputs(inputs.flatten(0, 1))
    label = torch.tensor([1, 0, 0, 1, 1, 0])
    assert torch.allclose(losses["loss_instance"], F.cross_entropy(logits, label))
    p = one.bag_head(one.embed(inputs.flatten(0, 1)).view(2, 3, 4).mean(1)).sigmoid()
    share = torch.tensor([[1 / 3], [2 / 3]])
    expected = 0.3 * F.binary_cross_entropy(p, share)
    assert torch.allclose(losses["loss_bag"], expected)
    plain = one.loss_dllp(inputs, sums, BAGS)
    p = logits.softmax(1)
    mean = p[:, 1].view(2, 3).mean(1, keepdim=True)
    assert torch.allclose(plain["loss_proportion"], F.binary_cross_entropy(mean, share))
    entropy = -0.2 * (p * p.log()).sum(1).mean()
    assert torch.allclose(plain["loss_entropy"], entropy, atol=1e-6)


def test_a_round_without_bags_is_refused(tmp_path):
    with pytest.raises(UserError, match="stage round_1 has no work_dataloader"):
        model().start_stage("round_1", None, tmp_path)


def test_bags_give_away_sums_only():
    two = dict(
        type="pld_mmdet.TwoClasses",
        dataset=dict(type="pld_mmdet.Digits", part="val"),
        positive=[7, 8],
    )
    data = ProportionBags(two, size=50, seed=3)
    assert len(data) == 7
    assert set(data[2]) == {"inputs", "sums", "index"}
    assert data[2]["index"].tolist() == list(range(100, 150))
    assert len(data.members.unique()) == 350
    single = TwoClasses(two["dataset"], two["positive"])
    assert data[2]["sums"] == sum(
        int(single[int(i)]["targets"]) for i in data.members[2]
    )
    with pytest.raises(UserError, match="360 instances fill no bag of 400"):
        ProportionBags(two, size=400)


def test_auc():
    scores, targets = torch.tensor([0.9, 0.4, 0.4, 0.1]), torch.tensor([1, 1, 0, 0])
    assert auc(scores, targets) == pytest.approx(3.5 / 4)
    with pytest.raises(UserError, match="one class only"):
        auc(scores, torch.ones(4))

"""LLP-BP: its graph, its gate, its losses, and what bags give away."""

import types

import pytest
import torch
from torch.nn import functional as F

from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.data.proportions import (
    ProportionBags,
    Table,
    TwoClasses,
    auc,
)
from pld_mmdet.weak_supervision.llp_bp import LLPBP, check_converged, neighbour_graph

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
    long = torch.tensor([[1.0, 0.0], [2.0, 0.1], [9.0, 9.0]])  # direction, not length
    assert neighbour_graph(long, 1)[0].tolist() == [[0, 1], [1, 2]]
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
    # 0.1 and 1.3 off: 0.7 on average
    check_converged(torch.tensor([0.1, 0.0, 0.0, 0.6, 0.6, 0.5]), BAGS, sums)
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
    index = torch.tensor([[4, 0, 2], [3, 5, 1]])
    losses = one.loss_round(inputs, sums, index)
    logits = one.outputs(inputs.flatten(0, 1))
    label = torch.tensor([1, 1, 0, 1, 0, 0])
    assert torch.allclose(losses["loss_instance"], F.cross_entropy(logits, label))
    p = one.bag_head(one.embed(inputs.flatten(0, 1)).view(2, 3, 4).mean(1)).sigmoid()
    share = torch.tensor([[1 / 3], [2 / 3]])
    expected = 0.3 * F.binary_cross_entropy(p, share)
    assert torch.allclose(losses["loss_bag"], expected)
    plain = one.loss_dllp(inputs, sums, index)
    p = logits.softmax(1)
    mean = p[:, 1].view(2, 3).mean(1, keepdim=True)
    assert torch.allclose(plain["loss_proportion"], F.binary_cross_entropy(mean, share))
    entropy = -0.2 * (p * p.log()).sum(1).mean()
    assert torch.allclose(plain["loss_entropy"], entropy, atol=1e-6)
    last = one.instance_head[2].weight  # both factors of the entropy are learned
    (ours,), (theirs,) = (
        torch.autograd.grad(value, last) for value in (plain["loss_entropy"], entropy)
    )
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert ours.abs().max() > 1e-4


def test_a_round_without_bags_is_refused(tmp_path):
    with pytest.raises(UserError, match="the stage round_1 has no work_dataloader"):
        model().start_stage("round_1", None, tmp_path)
    model().start_stage("dllp", None, tmp_path)  # it needs none


def test_labels_by_hand_on_a_chain():
    """Bags of one in another order than the instances; both weights, one neighbour."""
    z = torch.tensor([[2.0, 0.0], [2.0, 0.5], [2.0, 1.2]])
    bags, sums = torch.tensor([[2], [0], [1]]), torch.tensor([1.0, 0.3, 1.0])
    one = model(k=1, bag_weight=1.5, smooth_weight=0.8)
    found = one.label(z, bags, sums)
    weights = torch.tensor([-0.5, -0.7]).exp()
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    off = (states - torch.tensor([0.3, 1.0, 1.0])).square().sum(1)
    apart = (states.diff(dim=1).square() * weights).sum(1)
    wanted = (-1.5 * off - 0.8 * apart).softmax(0) @ states
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert 0.4 < wanted[0] < 0.5
    assert one.labels.rows[:3, 0].tolist() == [0, 1, 1]
    with pytest.raises(UserError, match="bag_factor"):
        model(bag_factor="none").label(z, bags, sums)


@pytest.mark.parametrize("training", [True, False])
def test_round_1_reads_inputs_and_later_ones_embeddings(tmp_path, training):
    one, seen = model(), []
    one.network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Dropout(0.5))
    one.train(training)
    one.label = lambda *given: seen.append(given)
    x = torch.tensor([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0], [7.0, 0.0]])
    bags = [
        dict(inputs=x[:2], index=torch.tensor([0, 1]), sums=torch.tensor(2.0)),
        dict(inputs=x[2:], index=torch.tensor([2, 3]), sums=torch.tensor(1.0)),
    ]
    loader = types.SimpleNamespace(dataset=bags)
    for name in ("round_1", "round_2"):
        one.start_stage(name, loader, tmp_path)
        assert one.training == training
        _, index, sums = seen[-1]
        assert [bag.tolist() for bag in index] == [[0, 1], [2, 3]]
        assert sums.tolist() == [2, 1]
    assert torch.equal(seen[0][0], x)
    assert torch.allclose(seen[1][0], one.network[0](x).relu())
    assert not seen[1][0].requires_grad


def test_what_fills_up_a_bag_is_no_instance(tmp_path):
    """A bag of 1 and one of 3: losses and labels are those of four instances."""
    one = model().eval()
    x = torch.tensor([[[1.0, -2.0], [9, 9], [9, 9]], [[3, 4], [-5, 6], [7, 0]]])
    index = torch.tensor([[0, -1, -1], [1, 2, 3]])
    sums = torch.tensor([1.0, 2.0])
    one.labels.write(torch.arange(4), torch.tensor([[1.0], [0], [1], [1]]))
    found = one.loss_round(x, sums, index)
    flat = one.embed(x[index >= 0])
    assert flat.shape[0] == 4
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        one.instance_head(flat), torch.tensor([[1.0], [0], [1], [1]])
    )
    assert torch.allclose(found["loss_instance"], wanted)
    bag = one.bag_head(torch.stack([flat[0], flat[1:].mean(0)]))[:, 0]
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        bag, torch.tensor([1.0, 2 / 3])
    )
    assert torch.allclose(found["loss_bag"], one.aggregate_weight * wanted)
    p = one.instance_head(flat).sigmoid()[:, 0]
    mean = torch.stack([p[0], p[1:].mean()])
    share = torch.tensor([1.0, 2 / 3])
    wanted = -(share * mean.log() + (1 - share) * (1 - mean).log()).mean()
    found = one.loss_dllp(x, sums, index)["loss_proportion"]
    assert torch.allclose(found, wanted)
    seen = []
    one.label = lambda *given: seen.append(given)
    bags = [
        dict(inputs=a, index=i, sums=s) for a, i, s in zip(x, index, sums, strict=True)
    ]
    one.start_stage("round_1", types.SimpleNamespace(dataset=bags), tmp_path)
    covariates, members, _ = seen[0]
    assert torch.equal(covariates, x[index >= 0])
    assert [bag.tolist() for bag in members] == [[0], [1, 2, 3]]
    bags[0]["sums"] = torch.tensor(float("nan"))
    with pytest.raises(UserError, match="of 1 of 2 bags"):
        one.start_stage("round_1", types.SimpleNamespace(dataset=bags), tmp_path)


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

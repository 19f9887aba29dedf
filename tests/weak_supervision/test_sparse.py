"""SPARSE: votes and memory by hand, who moves in whose turn, the networks' shapes."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.engine.optim.finite import FiniteOptimWrapper
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.networks.translation import AttentionUNet, ClassCritic
from pld_mmdet.weak_supervision.sparse import (
    confidence,
    confident,
    gradient_penalty,
    prototype_loss,
    remembered,
    vote,
)
from tests.toy_run import ROOT

PARTS = ("generator", "discriminator", "classifier")


def build(**changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(ROOT / "configs/sparse/toy.py").model
    cfg.update(changes)
    model = MODELS.build(cfg)
    model.progress = Progress(steps=10)
    return model


def batch():
    dice = torch.Generator().manual_seed(1)
    return dict(
        inputs=torch.rand(12, 1, 8, 8, generator=dice),
        targets=torch.tensor([0, 1, 2, 3] + 8 * [-1]),
        index=torch.arange(40, 52),
    )


def weights(model):
    return {
        part: torch.nn.utils.parameters_to_vector(getattr(model, part).parameters())
        .detach()
        .clone()
        for part in PARTS
    }


def step(model, data):
    wrappers = OptimWrapperDict(
        **{
            part: FiniteOptimWrapper(
                torch.optim.SGD(getattr(model, part).parameters(), lr=0.1)
            )
            for part in PARTS
        }
    )
    before = weights(model)
    logs = model.train_step(data, wrappers)
    after = weights(model)
    return logs, {p for p in PARTS if not torch.equal(before[p], after[p])}


def rows(*values):
    return torch.tensor([values])


def test_votes_by_hand():
    """The addendum's numbers, T = 2: D says (2, 1, 0), C says (1, 1, 0)."""
    z = rows(2.0, 1.0, 0.0), rows(1.0, 1.0, 0.0)
    assert confidence(z[0], 2).item() == pytest.approx(0.071382, abs=2e-6)
    assert confidence(z[1], 2).item() == pytest.approx(0.022068, abs=2e-6)
    p = vote(z, 2)
    assert p[0].tolist() == pytest.approx([0.477475, 0.325251, 0.197274], abs=2e-6)
    ens, new = remembered(p, rows(0.2, 0.5, 0.3), 0.6, 0.99)
    assert ens[0].tolist() == pytest.approx([0.366485, 0.39515, 0.238365], abs=2e-6)
    assert new[0].tolist() == pytest.approx([0.201665, 0.498952, 0.299384], abs=2e-6)
    # And the page's: D (1, 0, 0), C (0, 2, 0).
    z = rows(1.0, 0.0, 0.0), rows(0.0, 2.0, 0.0)
    p = vote(z, 0.5)
    assert p[0].tolist() == pytest.approx([0.263654, 0.690272, 0.046074], abs=2e-6)
    p = vote(z, 2)
    assert p[0].tolist() == pytest.approx([0.259108, 0.516737, 0.224155], abs=2e-6)


def test_an_image_that_was_never_seen_has_no_memory():
    p = rows(0.7, 0.2, 0.1)
    ens, new = remembered(p, torch.zeros(1, 3), 0.6, 0.99)
    assert torch.equal(ens, p)
    assert torch.equal(new, p)
    nobody = vote((rows(0.0, 0.0, 0.0), rows(1.0, 1.0, 1.0)), 2)
    assert nobody[0].tolist() == pytest.approx([1 / 3] * 3)
    assert vote((torch.zeros(0, 3), torch.zeros(0, 3)), 2).shape == (0, 3)


def test_a_quarter_of_the_batch_is_confident():
    best = torch.linspace(0.4, 0.9, 24)
    p = torch.stack([best, 1 - best], 1)
    chosen = confident(p, 0.75)
    assert chosen.sum() == 6
    assert chosen[-6:].all()
    # the quantile of five is one of them, which is not above itself
    five = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9])
    assert confident(torch.stack([five, 1 - five], 1), 0.75).tolist() == [False] * 4 + [
        True
    ]
    alike = confident(torch.full((5, 2), 0.5), 0.75)
    assert alike.tolist() == [True, False, False, False, False]


def test_prototypes_pull():
    """Two samples of class 0: q (1, 0) and (.5, .5), so c_0 = (.75, .25), c_1 = 0."""
    z = torch.tensor([[100.0, 0.0], [3.0, 3.0]])
    distances = torch.tensor([[0.125, 1.0], [0.125, 0.5]])
    wanted = F.cross_entropy(-distances, torch.tensor([0, 0]))
    found = prototype_loss(z, torch.tensor([0, 0]))
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)
    near = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    apart = prototype_loss(near, torch.tensor([0, 1]))
    assert apart < prototype_loss(near / 20, torch.tensor([0, 1]))


def test_gradient_penalty_by_hand():
    """A critic of slope 3 at each of 4 pixels: norm 6, so (6 - 1)^2."""

    def critic(x):
        return 3 * x.flatten(1).sum(1), None

    x = torch.rand(5, 1, 2, 2)
    found = gradient_penalty(critic, x, torch.rand_like(x))
    assert found.item() == pytest.approx(25, abs=1e-4)


def test_the_penalty_has_a_gradient():
    """A slope w at 4 pixels: (2 w - 1)^2, whose derivative at 3 is 20."""
    w = torch.tensor(3.0, requires_grad=True)
    x = torch.rand(5, 1, 2, 2)
    gradient_penalty(lambda x: (w * x.flatten(1).sum(1), None), x, x).backward()
    assert w.grad.item() == pytest.approx(20, abs=1e-4)


def test_the_critics_places_are_each_images_own():
    """Between black and white images: one number for each image, and its gradient."""
    seen = []

    def critic(x):
        seen.append(x)
        return x.flatten(1).sum(1), None

    gradient_penalty(critic, torch.zeros(6, 1, 2, 2), torch.ones(6, 1, 2, 2))
    places = seen[0].flatten(1)
    assert torch.equal(places, places[:, :1].expand(-1, 4))
    assert len(places[:, 0].unique()) == 6
    assert 0 < places.min() < places.max() < 1


def test_prototypes_are_constants():
    """c_0 is the mean of both q, and moves with neither; c_1 is 0."""
    z = torch.tensor([[0.2, 0.0], [0.05, 0.1]], requires_grad=True)
    prototype_loss(z, torch.tensor([0, 0])).backward()
    own = z.detach().clone().requires_grad_()
    q = (own / 0.1).softmax(1)
    mean = torch.tensor([0.629169, 0.370831])  # of 1 / (1 + e^-2), 1 / (1 + e^.5)
    distances = torch.stack([(q - mean).square().sum(1), q.square().sum(1)], 1)
    F.cross_entropy(-distances, torch.tensor([0, 0])).backward()
    assert torch.allclose(z.grad, own.grad, atol=1e-6)


def test_phase_a_by_hand():
    """C says (.5, .4, .1), the others' mean is (.4, .25, .35), y = 1."""
    model = build(mutual=0.3, entropy=0.05, mix=0.2, kl_weight=0.7)
    model._mixed = lambda part, x, y: torch.tensor(0.9)
    logits = {
        "generator": rows(0.6, 0.3, 0.1).log(),
        "discriminator": rows(0.2, 0.2, 0.6).log(),
        "classifier": rows(0.5, 0.4, 0.1).log(),
    }
    y = torch.tensor([1])
    found = model.labelled_losses("classifier", logits, None, y)
    # CE .916291, KL(mean || p) .231709, H(p) .943348
    expected = {
        "loss_proto": prototype_loss(logits["classifier"], y).item(),
        "loss_mutual": 0.3 * (0.916291 + 0.7 * 0.231709),
        "loss_ent": 0.05 * 0.943348,
        "loss_mix": 0.2 * 0.9,
    }
    assert {k: v.item() for k, v in found.items()} == pytest.approx(expected, abs=1e-6)


def stubbed(**changes):
    """D's score is 3 m and its logits (m, 0, -m), m the image's mean; G's (0, 2 m, 0).

    G adds a tenth of the class to all pixels.
    """

    class Critic(torch.nn.Module):
        def forward(self, x):
            m = x.mean((1, 2, 3))
            return 3 * m[:, None], torch.stack([m, 0 * m, -m], 1)

    model = build(**changes)
    model.discriminator = Critic()
    model.generator.translate = lambda x, c: x + c.view(-1, 1, 1, 1) / 10

    def looks(x):
        m = x.mean((1, 2, 3))
        return torch.stack([0 * m, 2 * m, 0 * m], 1)

    model.generator.forward = looks
    return model


def pair():
    """Images of .2 and .6, their votes, and what they are to become (.3 and .8)."""
    x = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    return x, torch.tensor([0, 2]), torch.tensor([1, 2])


def test_the_critics_losses_by_hand():
    """3 (.55 - .4); slope 3 / 4 at 4 pixels: (1.5 - 1)^2; CE .911902 and 1.815189."""
    found = stubbed(penalty=4.0, classes=0.5).critic_losses(*pair())
    assert found["loss_gan"].item() == pytest.approx(0.45, abs=1e-6)
    assert found["loss_gp"].item() == pytest.approx(4 * 0.25, abs=1e-5)
    ce = (0.911902 + 1.815189) / 2
    assert found["loss_cls"].item() == pytest.approx(0.5 * ce, abs=1e-6)


def test_the_generators_losses_by_hand():
    """Back from .3 with class 0 and from .8 with class 2: .1 and .4 away.

    CE of D: 1.128390, 2.101518; of G: .740805, 1.939178.
    """
    found = stubbed(reconstruct=2.0, classes=0.5).generator_losses(*pair())
    assert found["loss_gan"].item() == pytest.approx(-1.65, abs=1e-6)
    assert found["loss_rec"].item() == pytest.approx(2 * 0.25, abs=1e-6)
    ce = (1.128390 + 2.101518 + 0.740805 + 1.939178) / 2
    assert found["loss_cls"].item() == pytest.approx(0.5 * ce, abs=1e-5)


def test_memory_decides_who_is_confident_and_what_it_is():
    """Image 0 as above: .477 by its vote, .395 of class 1 with what is remembered."""
    model = build(num_classes=3, num_samples=9, quantile=0.5)
    model.memory.rows[7] = torch.tensor([0.2, 0.5, 0.3])
    logits = {
        "discriminator": torch.tensor([[2.0, 1, 0], [0, 0, 0.8226]]),
        "classifier": torch.tensor([[1.0, 1, 0], [0, 0, 0.8226]]),
    }
    model.looks = lambda x, part: logits[part]
    chosen, guess = model.choose(torch.zeros(2), torch.tensor([7, 4]))
    assert chosen.tolist() == [False, True]  # .43 of class 2
    assert guess.tolist() == [1, 2]
    new = [0.201665, 0.498952, 0.299384]
    assert model.memory.rows[7].tolist() == pytest.approx(new, abs=2e-6)
    assert model.memory.rows[4, 2].item() == pytest.approx(0.43, abs=1e-4)


def taken(model):
    """Let no optimizer step: the losses themselves are the logs."""
    order = []
    model.step = lambda _, losses, part: order.append(part) or losses()
    model.choose = lambda x, index: (
        torch.tensor([True, False, True]),
        torch.tensor([4, 5, 6]),
    )
    return order


def test_the_turns_of_unlabelled_images():
    """Only the confident ones; D, G and C are told the same classes to make."""
    model, asked, x = build().eval(), [], torch.rand(3, 1, 8, 8)
    order = taken(model)
    for name in ("critic_losses", "generator_losses"):
        setattr(model, name, lambda *args: asked.append(args) or {"loss": 0})
    logs = model._unlabelled(x, torch.arange(3), None)
    assert order == ["discriminator", "generator", "classifier"]
    assert logs["kept"].item() == pytest.approx(2 / 3)
    (x_d, guess_d, z), (x_g, guess_g, z_g) = asked
    assert torch.equal(x_d, x[::2])
    assert torch.equal(x_g, x[::2])
    assert guess_d.tolist() == guess_g.tolist() == [4, 6]
    assert torch.equal(z, z_g)
    made = model._made(x[::2], z)
    assert not made.requires_grad
    expected = F.cross_entropy(model.classifier(made), z).item()
    assert logs["classifier_u_loss_cls"].item() == pytest.approx(expected, rel=1e-5)


def test_without_a_translator_both_voters_learn_the_votes():
    model, x = build(use="votes").eval(), torch.rand(3, 1, 8, 8)
    assert taken(model) == []
    logs = model._unlabelled(x, torch.arange(3), None)
    for part in ("discriminator", "classifier"):
        z = model.looks(x[::2], part)
        expected = F.cross_entropy(z, torch.tensor([4, 6])).item()
        found = logs[f"{part}_u_loss_cls"].item()
        assert found == pytest.approx(expected, rel=1e-5), part


def test_mixed_images_have_mixed_labels(monkeypatch):
    """Images are doubled and labels exchanged by the stub; gamma is .25."""
    asked = []
    monkeypatch.setattr(
        "pld_mmdet.weak_supervision.sparse.mixup",
        lambda x, t, alpha: asked.append(alpha) or (2 * x, t.flip(0), 0.5),
    )
    model, x = (
        build(use="labels", mix=0.25, mix_alpha=0.7).eval(),
        torch.rand(2, 1, 8, 8),
    )
    found = model.plain_losses(x, torch.tensor([3, 8]))
    mixed = F.cross_entropy(model.classifier(2 * x), torch.tensor([8, 3])).item()
    plain = F.cross_entropy(model.classifier(x), torch.tensor([3, 8])).item()
    assert found["loss_mix"].item() == pytest.approx(0.25 * mixed, rel=1e-5)
    assert found["loss_ce"].item() == pytest.approx(plain, rel=1e-5)
    assert asked == [0.7]


def test_all_three_learn_and_the_memory_is_each_images_own():
    model = build(interval=1)
    logs, moved = step(model, batch())
    assert moved == set(PARTS)
    assert {"generator_u_loss_rec", "discriminator_u_loss_gp"} <= logs.keys()
    assert logs["kept"] == pytest.approx(2 / 8)
    written = torch.nonzero(model.memory.rows.sum(1)).flatten()
    assert written.tolist() == list(range(44, 52))
    assert torch.allclose(model.memory.rows[44:52].sum(1), torch.ones(8))


def test_turns():
    """Without a turn there is no pseudo-label; plain rows leave the others alone."""
    model = build(interval=5)
    model.progress.step = 3
    logs, _ = step(model, batch())
    assert "kept" not in logs
    assert not model.memory.rows.any()
    model.progress.step = 5
    assert "kept" in step(model, batch())[0]
    model.progress.step = 6
    assert "kept" not in step(model, batch())[0]
    assert step(build(use="labels"), batch())[1] == {"classifier"}
    logs, moved = step(build(use="votes"), batch())
    assert moved == {"discriminator", "classifier"}
    assert {"discriminator_u_loss_cls", "classifier_u_loss_cls"} <= logs.keys()


def test_a_batch_of_one_kind_is_that_kinds_phase():
    """Whatever the step: interval is for mixed batches."""
    model, data = build(interval=5), batch()
    model.progress.step = 3
    known = {k: v[:4] for k, v in data.items()}
    others = {k: v[4:] for k, v in data.items()}
    logs, moved = step(model, known)
    assert "kept" not in logs
    assert moved == set(PARTS)
    logs, moved = step(model, others)
    assert moved == set(PARTS)
    assert {"kept", "generator_u_loss_rec"} <= logs.keys()
    assert "generator_loss_proto" not in logs
    logs, moved = step(build(use="labels"), others)
    assert not moved


def test_gradients_of_each_turn():
    model = build()
    x, y, z = torch.rand(3, 1, 8, 8), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])

    def moved(losses):
        model.zero_grad()
        sum(losses.values()).backward()
        return {p for p in PARTS for w in getattr(model, p).parameters()
                if w.grad is not None and w.grad.any()}  # fmt: skip

    assert moved(model.generator_losses(x, y, z)) == {"generator"}
    assert moved(model.critic_losses(x, y, z)) == {"discriminator"}
    logits = {part: model.looks(x, part) for part in PARTS}
    assert moved(model.labelled_losses("classifier", logits, x, y)) == {"classifier"}
    # Nobody but the others is asked for the mutual term: without it and the rest, 0.
    alike = dict.fromkeys(PARTS, logits["classifier"])
    found = model.labelled_losses("classifier", alike, x, y)
    ce = F.cross_entropy(logits["classifier"], y).item()
    assert found["loss_mutual"].item() == pytest.approx(0.1 * ce, rel=1e-4)


def test_a_perfect_way_back_costs_nothing():
    model = build(classes=0.0)
    model.generator.translate = lambda x, classes: x
    losses = model.generator_losses(
        torch.rand(3, 1, 8, 8), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    )
    assert losses["loss_rec"].item() == 0
    assert losses["loss_cls"].item() == 0


def test_networks():
    net = AttentionUNet(3, in_channels=2, widths=(4, 6, 8))
    x = torch.rand(2, 2, 12, 12)
    assert net(x).shape == (2, 3)
    made = [net.translate(x, torch.full((2,), c)) for c in (0, 1)]
    assert made[0].shape == x.shape
    assert not torch.equal(*made)
    score, logits = ClassCritic(3, image_size=12, in_channels=2, widths=(4, 6))(x)
    assert score.shape == (2, 1, 3, 3)
    assert logits.shape == (2, 3)


def test_who_answers():
    model = build(predict_on="ensemble").eval()
    x = torch.rand(2, 1, 8, 8)
    p = (model.discriminator(x)[1].softmax(1) + model.classifier(x).softmax(1)) / 2
    assert torch.allclose(model.outputs(x).softmax(1), p, atol=1e-6)
    model.predict_on = "classifier"
    assert torch.equal(model.outputs(x), model.classifier(x))
    with pytest.raises(UserError, match="use"):
        build(use="everything")

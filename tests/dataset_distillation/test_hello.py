"""HeLlO: increments by hand, the projector's loss, what learns, what is stored."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pld_mmdet.dataset_distillation.data.distilled import DistilledPairs
from pld_mmdet.dataset_distillation.data.folders import read_distilled, write_distilled
from pld_mmdet.dataset_distillation.data.real import real_images
from pld_mmdet.dataset_distillation.hello import HeLlO, _tiled, projector_loss
from pld_mmdet.dataset_distillation.networks.label_generator import (
    LabelProjector,
    StoredNumbers,
    read_generator,
)
from pld_mmdet.dataset_distillation.networks.low_rank import LowRank, adapt, increments
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS

NET = dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=(4, 6), num_classes=2)
PROJECTOR = dict(
    type="pld_mmdet.LabelProjector", encoder=NET, rank=2, text_rank=3, scale=10.0
)


def build(**changes) -> HeLlO:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.HeLlO",
        student=NET,
        teacher=NET,
        projector=PROJECTOR,
        image_shape=(3, 8, 8),
        num_classes=2,
        ipc=3,
        weak=3,
    )
    return MODELS.build(config | changes)


class Real:
    metainfo = dict(classes=("dark", "light"))

    def __len__(self):
        return 24

    def __getitem__(self, i):
        torch.manual_seed(i)
        x = torch.rand(3, 8, 8) / 2 + i % 2 / 2
        return dict(inputs=x, targets=torch.tensor(i % 2))


class Loader:
    dataset = Real()

    def __iter__(self):
        yield torch.utils.data.default_collate([self.dataset[i] for i in range(24)])


def named(**changes) -> HeLlO:
    model = build(**changes)
    model.enter_stage("projector")
    model.start_stage("projector", Loader(), None)
    return model


def perturbed(model) -> None:
    with torch.no_grad():
        for _, weight in increments(model.projector):
            weight.normal_()


@pytest.mark.parametrize(
    ("layer", "rank", "count"),
    [
        (nn.Linear(512, 10), 4, 2088),
        (nn.Linear(1024, 1000, bias=False), 128, 259_072),
        (nn.Conv2d(6, 5, 3), 2, 2 * (6 * 9 + 5)),
    ],
)
def test_increments_are_counted_by_hand(layer, rank, count):
    made = LowRank(layer, rank)
    assert sum(weight.numel() for _, weight in increments(made)) == count
    learning = [p for p in made.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learning) == count


def test_an_increment_is_a_matrix_of_low_rank():
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 4), torch.randn(3, 5)
    made = LowRank(layer, 2)
    assert torch.equal(made(x), layer(x))
    nn.init.normal_(made.up.weight)
    whole = layer.weight + made.up.weight @ made.down.weight
    assert torch.allclose(made(x), F.linear(x, whole, layer.bias), atol=1e-6)
    conv, images = nn.Conv2d(3, 4, 3, 2, 1), torch.randn(2, 3, 8, 8)
    made = LowRank(conv, 2)
    assert torch.equal(made(images), conv(images))
    nn.init.normal_(made.up.weight)
    kernel = torch.einsum("or,rikl->oikl", made.up.weight[..., 0, 0], made.down.weight)
    expected = F.conv2d(images, conv.weight + kernel, conv.bias, 2, 1)
    assert torch.allclose(made(images), expected, atol=1e-5)


def test_every_layer_but_depthwise_ones_is_adapted():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4), nn.Sequential(nn.Linear(2, 3)), nn.Linear(3, 1)
    )
    adapt(net, 1, skip=("2",))
    kinds = [isinstance(m, LowRank) for m in (net[0], net[1][0], net[2])]
    assert kinds == [False, True, False]
    with pytest.raises(UserError, match="no linear layer"):
        adapt(nn.Sequential(nn.ReLU()), 1)
    with pytest.raises(UserError, match="rank=0"):
        adapt(net, 0)


def test_projectors_loss_by_hand():
    """MSE (1 + 1 + 0) / 3 and half of the cross-entropy: .942389."""
    logits, soft = torch.tensor([[1.0, 0, 0]]), torch.tensor([[2.0, -1, 0]])
    mse, ce = projector_loss(logits, soft, torch.tensor([0]), 0.5)
    assert mse.item() == pytest.approx(0.666667, abs=1e-6)
    assert (mse + ce).item() == pytest.approx(0.942389, abs=1e-6)


def test_without_increments_it_is_the_zero_shot_classifier():
    model = named()
    projector, x = model.projector, torch.rand(5, 3, 8, 8)
    batch = next(iter(Loader()))
    features = F.normalize(projector.encoder.features(batch["inputs"]), dim=1)
    sums = torch.stack([features[batch["targets"] == k].sum(0) for k in (0, 1)])
    means = F.normalize(sums, dim=1)
    words = F.normalize(means - means.mean(0), dim=1)
    assert torch.allclose(projector.words, words, atol=1e-5)
    found = F.normalize(projector.encoder.features(x), dim=1)
    assert torch.allclose(projector(x), 10 * found @ words.T, atol=1e-4)
    before = projector(x)
    perturbed(model)
    assert not torch.allclose(before, projector(x), atol=0.1)


def test_only_increments_learn_from_real_images():
    model = named()
    batch = next(iter(Loader()))
    losses = model.loss(**batch)
    mse, ce = projector_loss(
        model.projector(batch["inputs"]),
        model.soft(batch["inputs"]),
        batch["targets"],
        1.0,
    )
    assert losses["loss_mse"].item() == pytest.approx(mse.item())
    assert losses["loss_ce"].item() == pytest.approx(ce.item())
    sum(losses.values()).backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    expected = {f"projector.{name}" for name, _ in increments(model.projector)}
    assert learning == expected
    assert len(expected) == 6
    whole = named(projector=dict(PROJECTOR, rank=0))
    sum(whole.loss(**batch).values()).backward()
    learning = {name for name, p in whole.named_parameters() if p.grad is not None}
    assert "projector.text.weight" in learning
    assert "projector.encoder.backbone.0.weight" in learning
    assert "projector.encoder.fc.weight" not in learning


def test_the_foundation_learns_without_increments():
    model = build()
    model.enter_stage("foundation")
    model.loss(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0]))["loss"].backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(
        "encoder" in n and ".up." not in n and ".down." not in n for n in learning
    )
    assert "projector.encoder.fc.weight" in learning


def test_weak_teachers_are_checkpoints_along_one_training():
    model = build()
    model.enter_stage("teacher")
    model.progress.steps = 6
    first = model.weak[-1].fc.weight
    batch = next(iter(Loader()))
    for step in range(6):
        model.progress.step = step
        with torch.no_grad():
            first.fill_(step)
        model.loss(**batch)
    assert [int(network.fc.weight[0, 0]) for network in model.weak] == [2, 4, 5]
    x = torch.rand(2, 3, 8, 8)
    mean = sum(network(x) for network in model.weak) / 3
    assert torch.allclose(model.soft(x), mean, atol=1e-6)


def test_the_easiest_images_are_made_simple():
    model = named()
    model.soft = lambda x: torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)
    model.enter_stage("images")
    model.start_stage("images", Loader(), None)
    shown = model.whole().view(3, 2, -1).mean(2)
    assert (shown[0, 0] < shown[1, 0]) & (shown[1, 0] < shown[2, 0])  # dark: darkest
    assert (shown[0, 1] > shown[1, 1]) & (shown[1, 1] > shown[2, 1])
    for c, sign in ((0, 1), (1, -1)):  # of the nine that were drawn, the easiest
        drawn = real_images(Real(), 9, 2, int(model.dice))[:, c].flatten(1).mean(1)
        wanted = (sign * drawn).sort().values[:3] * sign
        assert torch.allclose(shown[:, c], wanted, atol=1e-6)
    kept = model.whole()
    model.start_stage("images", Loader(), None)
    assert torch.equal(kept, model.whole())
    loss = model.loss()["loss"]
    loss.backward()
    assert model.images[0].grad.any()
    assert all(p.grad is None for p in model.projector.parameters())
    with torch.no_grad():
        model.images[0].fill_(0.3)  # small and large again is the same
    model.zero_grad()
    loss = model.loss()["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-10)
    assert model.images[0].grad.abs().max() < 1e-6


def test_the_images_loss_and_its_gradient_by_hand():
    """Of 2 x 2 pixels the small image is the mean m: features are squares.

    Gradients pass through both branches.
    """
    model = build(image_shape=(3, 2, 2), num_classes=2, ipc=1)
    pixels = torch.tensor([[0.1, 0.5], [0.3, 0.7]])
    with torch.no_grad():
        model.images[0].copy_(pixels.expand(2, 3, 2, 2))
    model.enter_stage("images")
    model.projector.encoder.features = lambda x: x.square().flatten(1)
    loss = model.loss()["loss"]
    # m^2 = .16 against .01, .25, .09, .49: (.0225 + .0081 + .0049 + .1089) / 4
    assert loss.item() == pytest.approx(0.0361, abs=1e-6)
    loss.backward()
    p = pixels.clone().requires_grad_()
    (p.mean().square() - p.square()).square().mean().backward()
    assert torch.allclose(model.images[0].grad[1, 2], p.grad / 6, atol=1e-6)


def test_pixels_stay_pixels():
    """Of mean .5 and deviation .25 they lie in -2 to 2."""
    model = build(mean=0.5, std=0.25)
    with torch.no_grad():
        model.images[0].copy_(torch.randn(6, 3, 8, 8) * 9)
    model.enter_stage("images")
    model.loss()
    assert model.images[0].min() == -2
    assert model.images[0].max() == 2


def test_stored_images_are_raw_and_networks_see_normalised_ones(tmp_path):
    """.75 of mean .5 and deviation .25 is 1, in whatever view."""
    model, seen = named(mean=0.5, std=0.25, labels="stored"), []
    with torch.no_grad():
        model.images[0].copy_(torch.linspace(-1.6, 1.6, 6).view(6, 1, 1, 1))
    model.write(tmp_path)
    pairs = DistilledPairs(tmp_path)
    expected = 0.5 + 0.25 * torch.linspace(-1.6, 1.6, 6)
    assert torch.allclose(pairs.images[:, 0, 0, 0], expected, atol=1 / 400)
    assert pairs.classes.tolist() == [0, 1] * 3
    known = (pairs.images - 0.5) / 0.25
    assert torch.allclose(pairs.targets, model.projector(known), atol=1e-4)
    model.enter_stage("student")
    model.student.backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    flat = torch.full((4, 3, 8, 8), 0.75)
    model.loss(flat, torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]))
    assert torch.allclose(seen[0], torch.ones_like(flat), atol=1e-5)


def test_hard_labels_are_cross_entropy_alone():
    model = build(labels="hard").eval()
    model.enter_stage("student")
    flat, classes = torch.full((3, 3, 8, 8), 0.75), torch.tensor([0, 1, 1])
    found = model.eval().loss(flat, torch.zeros(3, 0), classes)
    assert set(found) == {"loss_ce"}
    ce = F.cross_entropy(model.student(flat), classes)
    assert found["loss_ce"].item() == pytest.approx(ce.item(), rel=1e-4)


def test_lambda_weighs_the_projectors_cross_entropy():
    batch = next(iter(Loader()))
    one, less = named(), named(ce_weight=0.25)
    expected = one.loss(**batch)["loss_ce"].item() / 4
    assert less.loss(**batch)["loss_ce"].item() == pytest.approx(expected, rel=1e-5)


def test_words_that_the_encoder_knows_are_made_unit_vectors(monkeypatch):
    class Knows(nn.Module):
        feat_dim = 2
        text_embeddings = torch.tensor([[3.0, 4.0], [0.0, -2.0]])

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def features(self, x):
            return self.layer(x)

    monkeypatch.setattr(MODELS, "build", lambda config: Knows())
    made = LabelProjector({}, 2, rank=1, text_rank=1, scale=10.0)
    assert made.words.tolist() == [pytest.approx([0.6, 0.8]), [0, -1]]
    x = torch.randn(4, 3)
    unit = F.normalize(made.encoder.features(x), dim=1)
    assert torch.allclose(made(x), 10 * unit @ made.words.T, atol=1e-5)


def test_patches_are_tiled():
    patches = torch.arange(4.0).view(1, 4, 1, 1, 1, 1).expand(1, 4, 1, 3, 8, 8)
    image = _tiled(patches, 2)
    assert image.shape == (1, 1, 3, 8, 8)
    corners = image[0, 0, 1, [0, 0, 7, 7], [0, 7, 0, 7]]
    assert corners.tolist() == [0, 1, 2, 3]
    model = build(tiles=2, image_shape=(3, 8, 16))
    with torch.no_grad():
        model.images[0].copy_(torch.rand(6, 3, 8, 16))
    model.enter_stage("images")
    seen = []
    model.projector.encoder.backbone.register_forward_pre_hook(
        lambda _, x: seen.append(x[0])
    )
    model.loss()
    assert seen[1].shape == (24, 3, 4, 8)
    assert torch.equal(seen[1][1], model.images[0][0, :, :4, 8:])
    many = build(ipc=40)  # 80 images in parts of 64 and 16
    many.enter_stage("images")
    many.progress.step = 3
    many.loss()["loss"].backward()
    assert [part.grad is not None for part in many.images] == [False, True]


def test_a_label_belongs_to_the_view():
    model = named()
    perturbed(model)
    model.enter_stage("student")
    x, classes = torch.rand(6, 3, 8, 8), torch.arange(6) % 2
    seen = []
    for part in (model.student.backbone, model.projector.encoder.backbone):
        part.register_forward_pre_hook(lambda _, v: seen.append(v[0]))
    losses = model.loss(x, torch.zeros(6, 0), classes)
    assert torch.equal(seen[0], seen[1])
    z, soft = model.student(seen[0]), model.projector(seen[0])
    assert losses["loss_mse"].item() == pytest.approx(
        F.mse_loss(z, soft).item(), rel=1e-4
    )
    ce = F.cross_entropy(z, classes)
    assert losses["loss_ce"].item() == pytest.approx(0.1 * ce.item(), rel=1e-5)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.projector.parameters())
    model.student, model.hard_weight = model.projector, 0.0
    assert sum(model.loss(x, torch.zeros(6, 0), classes).values()).item() == 0


def test_the_product_is_images_and_increments(tmp_path):
    model = named()
    perturbed(model)
    model.enter_stage("images")
    model.start_stage("images", Loader(), None)
    model.enter_stage("student")
    model.start_stage("student", Loader(), tmp_path)
    found = read_distilled(tmp_path / "distilled")
    assert found["targets"].shape == (6, 0)
    numbers = sum(v.numel() for k, v in found.items() if k.startswith("increment."))
    # (27 + 4) 2 + (36 + 6) 2 of the convolutions, (6 + 2) 3 of the words
    assert numbers == 62 + 84 + 24 == model.stored == found["about"]["stored numbers"]
    fresh = LabelProjector(NET, 2, rank=2, text_rank=3, scale=10.0)
    state = {
        k: v
        for k, v in model.projector.state_dict().items()
        if ".up." not in k and ".down." not in k
    }
    fresh.load_state_dict(state, strict=False)  # the foundation and its words
    read_generator(tmp_path / "distilled", fresh.eval())
    x = torch.rand(4, 3, 8, 8)
    assert torch.allclose(fresh(x), model.projector(x), atol=1e-5)
    other = LabelProjector(NET, 2, rank=1, text_rank=3)
    with pytest.raises(UserError, match="do not fit LabelProjector"):
        read_generator(tmp_path / "distilled", other)
    model.labels = "stored"
    model.start_stage("student", Loader(), tmp_path)
    pairs = DistilledPairs(tmp_path / "distilled")
    assert model.stored == 12
    assert torch.allclose(pairs.targets, model.projector(pairs.images), atol=1e-4)
    write_distilled(tmp_path, torch.zeros(1, 3, 4, 4), torch.zeros(1, 0))
    with pytest.raises(UserError, match="do not fit"):
        read_generator(tmp_path, other)


def test_answers_and_their_price():
    model = named()
    batch = next(iter(Loader()))
    for who in ("student", "projector", "teacher"):
        model.predict_on = who
        (found,) = model.predict(**batch)
        assert found["logits"].shape == (24, 2)
        assert found["stored"] == 170
    metric = StoredNumbers()
    metric.process({}, [found])
    assert metric.compute_metrics(metric.results) == {"stored": 170.0}
    model.labels = "hard"
    assert model.stored == 0


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="labels='some'"):
        build(labels="some")
    with pytest.raises(UserError, match="no weak teacher"):
        build(weak=0)
    for stage in ("projector", "images"):
        with pytest.raises(
            UserError, match=f"the stage {stage} has no work_dataloader"
        ):
            build().start_stage(stage, None, None)

"""DHO: hand-worked numbers, where gradients go, CLIP, data, its configs."""

import mmcv
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pld_mmdet.classification import (
    DHO,
    CLIPImageEncoder,
    CLIPZeroShot,
    ConfusedDigitsTeacher,
)
from pld_mmdet.classification.dho import (
    ALPHAS,
    BETAS,
    _start_from_text,
    mix,
    search_mix,
)
from pld_mmdet.classification.networks import digits_teacher
from pld_mmdet.classification.networks.clip_teacher import read_names
from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.run import optional
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.shared import ClassFolder, Digits, LabelledAndNot
from pld_mmdet.shared.data.class_folder import centre_crop, random_resized_crop
from tests.classification.helpers import check_toy, load, tiny_clip, train

STUDENT = dict(type="pld_mmdet.SmallConvNet", widths=(4, 8), num_classes=3)
TWO = STUDENT | dict(num_classes=2)
A, K = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.0, 3.0, 0.0]])
CE, KD = ("loss_ce",), ("loss_kd_labelled", "loss_kd_unlabelled")


def build(**changes) -> DHO:
    torch.manual_seed(0)
    cfg = dict(type="pld_mmdet.DHO", student=STUDENT, teacher=STUDENT, num_classes=3)
    return MODELS.build(cfg | changes)


def batch(labelled: int = 3, rest: int = 5) -> dict:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(labelled + rest, 1, 8, 8, generator=generator)
    targets = torch.cat([torch.arange(labelled) % 3, torch.full((rest,), -1)])
    return dict(inputs=x, targets=targets)


class Answer(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, inputs):
        return self.logits


def test_temperature_three_by_hand():
    """9 KL((0.6, 0.4) || (0.5, 0.5)) at a third of the logits (3 ln 1.5, 0) and 0."""
    model = build(num_classes=2, tau=3.0, w1=0.0, w2=1.0, student=TWO, teacher=TWO)
    model.teacher = Answer(torch.tensor([[3 * 0.405465, 0.0]]))
    model.both_heads = lambda x: (torch.zeros(1, 2), torch.zeros(1, 2))
    losses = model.loss(torch.zeros(1, 1, 8, 8), torch.tensor([-1]))
    assert losses["loss_kd_unlabelled"].item() == pytest.approx(9 * 0.020136, abs=1e-5)
    assert losses["loss_kd_labelled"] == losses["loss_ce"] == 0


@pytest.mark.parametrize("classes", [2, 4])
def test_as_many_names_as_classes(classes):
    heads = (nn.Linear(5, classes), nn.Linear(5, classes))
    with pytest.raises(UserError, match=f"3 names, but num_classes={classes}"):
        _start_from_text(heads, torch.ones(3, 5))


def reached(model, losses, names) -> dict[str, bool]:
    """Which parts get a gradient that is not zero from these losses."""
    model.zero_grad()
    sum(losses[name] for name in names).backward()
    parts = ("student", "ce_head", "kd_head", "teacher")
    return {
        part: any(
            p.grad is not None and bool(p.grad.any())
            for p in getattr(model, part).parameters()
        )
        for part in parts
    }


def test_worked_mixture():
    p = mix(A, K, alpha=0.5, beta=0.5).exp()
    expected = torch.tensor([[0.3338537, 0.6198977, 0.0462486]])
    assert torch.allclose(p, expected, atol=1e-6)
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(mix(A, K, 1, 0.5).exp(), A.softmax(1))
    assert torch.allclose(mix(A, K, 0, 0.5).exp(), (K / 0.5).softmax(1))


def test_worked_distillation_number():
    """z_s = (2, 1, 0), z_t = (1, 2, 0), T = 2: T^2 KL = .3985690."""
    model = build(w1=1.0, w2=1.0)
    model.both_heads = lambda inputs: (A.expand(2, -1), A.expand(2, -1))
    model.teacher = Answer(torch.tensor([[1.0, 2.0, 0.0]]).expand(2, -1))
    losses = model.loss(torch.zeros(2, 1), torch.tensor([1, -1]))
    assert losses["loss_kd_labelled"].item() == pytest.approx(0.3985690, abs=1e-6)
    assert losses["loss_kd_unlabelled"].item() == pytest.approx(0.3985690, abs=1e-6)
    assert losses["loss_ce"].item() == pytest.approx(-A.log_softmax(1)[0, 1].item())


def test_each_kind_of_image_has_its_own_mean():
    model, data = build(w1=0.7, w2=0.3).eval(), batch(3, 5)
    losses = model.loss(**data)
    a, k = model.both_heads(data["inputs"])
    z_t = model.teacher(data["inputs"])
    ce = F.cross_entropy(a[:3], data["targets"][:3])
    expected = [0.7 * ce, 0.3 * kl(z_t[:3], k[:3], 2.0), 0.3 * kl(z_t[3:], k[3:], 2.0)]
    for name, value in zip(CE + KD, expected, strict=True):
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("kd_scale", [None, 10.0])
def test_heads_never_see_the_other_loss(kd_scale):
    model, data = build(kd_scale=kd_scale), batch()
    ce = reached(model, model.loss(**data), CE)
    assert ce == dict(student=True, ce_head=True, kd_head=False, teacher=False)
    kd = reached(model, model.loss(**data), KD)
    assert kd == dict(student=True, ce_head=False, kd_head=True, teacher=False)


def test_a_single_head_gets_both():
    model, data = build(heads="single"), batch()
    assert reached(model, model.loss(**data), CE)["ce_head"]
    assert reached(model, model.loss(**data), KD)["ce_head"]
    assert model.kd_head is model.ce_head


@pytest.mark.parametrize(("labelled", "rest"), [(4, 0), (0, 4)])
def test_batches_of_one_kind(labelled, rest):
    model = build()
    losses = model.loss(**batch(labelled, rest))
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert (losses["loss_ce"] == 0) == (labelled == 0)
    assert (losses["loss_kd_unlabelled"] == 0) == (rest == 0)


def test_the_students_own_classifier_is_dropped():
    assert not any(name.startswith("student.fc") for name in build().state_dict())


def test_teacher_stays_as_it_is():
    model, data = build(), batch()
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.train()
    model.loss(**data)
    assert not model.teacher.training
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", ["mix", "ce", "kd", "teacher"])
def test_answers_with_what_is_named(name):
    model, data = build(predict_on=name).eval(), batch()
    (answer,) = model(mode="predict", **data)
    a, k = model.both_heads(data["inputs"])
    teacher = model.teacher(data["inputs"])
    expected = dict(mix=mix(a, k, 0.5, 0.5), ce=a, kd=k, teacher=teacher)
    assert torch.allclose(answer["logits"], expected[name])


def test_search_finds_the_head_that_knows():
    targets = torch.arange(30) % 3
    right, wrong = 5.0 * F.one_hot(targets, 3), 5.0 * F.one_hot((targets + 1) % 3, 3)
    assert search_mix(right, wrong, targets)[0] > 0.5
    assert search_mix(wrong, right, targets)[0] < 0.5
    # all mixtures classify alike: the likelihood decides, for the surer answers
    assert search_mix(right, right, targets) == (0.0, 0.5)


def test_the_grid_of_the_paper():
    assert pytest.approx(torch.linspace(0, 1, 21).tolist()) == list(ALPHAS)
    assert BETAS == (0.5, 0.75, 1, 1.25, 1.5, 2, 4)


def test_wrong_words_are_refused():
    for wrong in (dict(heads="two"), dict(predict_on="both")):
        with pytest.raises(UserError, match="is not known"):
            build(**wrong)
    with pytest.raises(UserError, match="no features"):
        build(student=dict(type="pld_mmdet.MLP", sizes=(64, 3)))


def test_bfloat16():
    model, data = build(kd_scale=100.0), batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(**data)
        (answer,) = model.predict(**data)
    assert all(v.dtype == torch.float32 for v in losses.values())
    assert torch.allclose(answer["logits"].exp().sum(1), torch.ones(8), atol=1e-3)


class TestCLIP:
    names = ("cat", "dog", "tree_frog")

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        return tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")

    def test_zero_shot_logits_are_scaled_cosines(self, folder):
        """Against transformers' own CLIPModel, at CLIP's size."""
        from transformers import AutoTokenizer, CLIPModel

        teacher = CLIPZeroShot(str(folder), self.names, templates=["a {}."])
        x = torch.rand(2, 3, 16, 16)
        whole = CLIPModel.from_pretrained(folder).eval()
        tokens = AutoTokenizer.from_pretrained(folder)(
            ["a cat.", "a dog.", "a tree frog."], padding=True, return_tensors="pt"
        )
        pixels = (x - teacher.encoder.mean) / teacher.encoder.std
        with torch.no_grad():
            scale = whole.logit_scale.exp()
            answer = whole(pixel_values=pixels, **tokens)
            expected = 100 * answer.logits_per_image / scale
            assert torch.allclose(teacher(x), expected, atol=1e-3)
        assert teacher.text.shape == (3, 8)

    def test_templates_are_averaged_at_unit_length(self, folder):
        each = [
            CLIPImageEncoder(str(folder), self.names, [t]).text_embeddings
            for t in ("a {}.", "{} here.")
        ]
        both = CLIPImageEncoder(str(folder), self.names, ["a {}.", "{} here."])
        mean = F.normalize(each[0] + each[1], dim=1)
        assert torch.allclose(both.text_embeddings, mean, atol=1e-6)

    def test_released_text_vectors_keep_their_length(self, folder):
        """raw: mean of the sentences as they are; mean: of unit vectors."""
        sentences = ["a {}.", "{} here."]
        raw = [
            CLIPImageEncoder(
                str(folder), self.names, [s], text_length="raw"
            ).text_embeddings
            for s in sentences
        ]
        assert (raw[0].norm(dim=1) - 1).abs().min() > 1e-3
        for length, parts in (
            ("raw", raw),
            ("mean", [F.normalize(r, dim=1) for r in raw]),
        ):
            found = CLIPZeroShot(
                str(folder), self.names, sentences, text_length=length
            ).text
            assert torch.allclose(found, (parts[0] + parts[1]) / 2, atol=1e-6)

    def test_student_starts_as_the_zero_shot_classifier(self, folder):
        common = dict(source=str(folder), names=self.names)
        model = build(
            student=dict(type="pld_mmdet.CLIPImageEncoder", **common),
            teacher=dict(type="pld_mmdet.CLIPZeroShot", **common),
            kd_scale=100.0,
        ).eval()
        x = torch.rand(2, 3, 20, 20)  # resized by both
        assert torch.allclose(model.both_heads(x)[1], model.teacher(x), atol=1e-3)
        assert not any(p.requires_grad for p in model.teacher.parameters())
        assert not any("text_model" in name for name in model.state_dict())
        losses = model.loss(x, torch.tensor([0, -1]))
        assert losses["loss_kd_unlabelled"].abs() < 1e-5
        losses["loss_ce"].backward()
        grads = [p.grad for p in model.student.parameters()]
        assert all(g is not None for g in grads)

    def test_names(self, folder, tmp_path):
        (tmp_path / "names.txt").write_text("cat\ntree_frog\n")
        assert read_names(str(tmp_path / "names.txt")) == ["cat", "tree frog"]
        with pytest.raises(UserError, match="cannot be read"):
            read_names(str(tmp_path / "none.txt"))
        with pytest.raises(UserError, match="empty"):
            read_names(["cat", " "])
        student = dict(
            type="pld_mmdet.CLIPImageEncoder", source=str(folder), names=self.names
        )
        with pytest.raises(UserError, match="3 names, but num_classes=4"):
            build(student=student, num_classes=4)

    def test_what_cannot_be_loaded_is_named(self, tmp_path, monkeypatch):
        with pytest.raises(UserError, match="No CLIP model can be loaded"):
            CLIPImageEncoder(str(tmp_path), self.names)

        def gone(name):
            raise ModuleNotFoundError(name, name=name)

        monkeypatch.setattr(optional, "import_module", gone)
        with pytest.raises(UserError, match="transformers") as error:
            CLIPImageEncoder(str(tmp_path), self.names)
        assert "[language]" in error.value.fix


class TestData:
    def test_unlabelled_images_lose_their_label(self):
        parts = [Digits("train", labelled=n) for n in (3, -3)]
        data = LabelledAndNot(parts)
        assert len(data) == 1077
        assert data[29]["targets"] == parts[0].targets[29]
        assert data[30]["targets"] == -1
        assert torch.equal(data[30]["inputs"], parts[1][0]["inputs"])
        assert data[1076]["index"] == 1076
        assert parts[1][0]["targets"] >= 0  # the data set itself is as it was

    @pytest.fixture(scope="class")
    def tree(self, tmp_path_factory):
        return write_images(tmp_path_factory.mktemp("images"))

    def test_share_and_rest_are_complements(self, tree):
        some, rest = (ClassFolder(tree, 8, share=0.4, rest=r) for r in (False, True))
        assert torch.bincount(some.targets).tolist() == [2, 2, 2]
        assert torch.bincount(rest.targets).tolist() == [3, 3, 3]
        assert not set(some.files) & set(rest.files)
        assert set(some.files) | set(rest.files) == set(ClassFolder(tree).files)
        assert some.metainfo["classes"] == ("n1", "n2", "n3")
        with pytest.raises(UserError, match="none are left"):
            ClassFolder(tree, rest=True)

    def test_images_are_rgb_and_square(self, tree):
        sample = ClassFolder(tree, 8)[0]
        assert sample["inputs"].shape == (3, 8, 8)
        red, green, blue = sample["inputs"].mean((1, 2)).tolist()
        assert red > 0.9
        assert max(green, blue) < 0.1

    def test_crops(self):
        ramp = torch.linspace(0, 1, 40).expand(3, 20, 40)
        assert centre_crop(ramp, 20).shape == (3, 20, 20)
        # the middle half of a ramp
        middle = ramp[:, :, 10:30]
        assert torch.allclose(centre_crop(ramp, 20), middle, atol=1e-3)
        torch.manual_seed(0)
        crops = torch.stack([random_resized_crop(ramp, 16) for _ in range(50)])
        assert crops.shape == (50, 3, 16, 16)
        spans = crops[:, 0, 0, -1] - crops[:, 0, 0, 0]
        # a window of half the area at most 4 / 3 as wide as high: 0.61 to 0.9 of 40
        assert spans.min() > 0.45
        assert spans.max() < 0.75
        assert spans.std() > 0.01


def write_images(root, classes: int = 3, images: int = 5):
    rng = np.random.default_rng(0)
    for label in range(1, classes + 1):
        for i in range(images):
            pixels = rng.integers(0, 20, (12, 16, 3)).astype(np.uint8)
            pixels[..., 2] = 250  # red, in OpenCV's order
            mmcv.imwrite(pixels, str(root / f"n{label}" / f"{i}.png"))
    return root


def test_confused_teacher_is_wrong_where_it_says():
    teacher, data = ConfusedDigitsTeacher(), Digits("val")
    found = teacher(data.images).argmax(1)
    right = [(found[data.targets == c] == c).float().mean().item() for c in range(10)]
    assert max(right[3], right[7]) < 0.5
    assert min(r for c, r in enumerate(right) if c not in (3, 7)) > 0.85
    mistaken = (data.targets == 3) & (found != 3)
    assert (found[mistaken] == 8).float().mean() > 0.9
    digits_teacher._fit.cache_clear()
    again = ConfusedDigitsTeacher().state_dict()
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, again[name])


def test_toy_config(tmp_path):
    state = check_toy("dho/toy.py", tmp_path)
    assert "teacher.network.linear.weight" in state


def test_rivals_and_readings(tmp_path):
    for name in ("plain", "single_head"):
        assert train(load(f"dho/{name}.py", tmp_path / name)).iter == 2
    runner = train(load("dho/searched.py", tmp_path / "searched"))
    model = runner.model
    model.alpha, model.beta = 7.0, 7.0
    assert runner.test()["accuracy"] > 0
    data = Digits("val")
    with torch.no_grad():
        heads = model.both_heads(data.images)
    assert (model.alpha, model.beta) == search_mix(*heads, data.targets)


def test_paper_config_steps(tmp_path):
    data = tmp_path / "data"
    write_images(data / "train")
    write_images(data / "val")
    names = data / "classnames.txt"
    names.write_text("cat\ndog\nfrog\n")
    labelled, rest = (
        f"train_dataloader.dataset.dataset.datasets.{i}.{{}}" for i in (0, 1)
    )
    cfg = load(
        "dho/paper.py",
        tmp_path / "run",
        [
            *(f"{p.format('data_root')}={data / 'train'}" for p in (labelled, rest)),
            *(f"{p.format('size')}=24" for p in (labelled, rest)),
            f"test_dataloader.dataset.data_root={data / 'val'}",
            "test_dataloader.dataset.size=24",
            "test_dataloader.num_workers=0",
            f"model.student.source={tiny_clip(tmp_path / 'student')}",
            f"model.teacher.source={tiny_clip(tmp_path / 'teacher', 24)}",
            f"model.student.names={names}",
            f"model.teacher.names={names}",
            "model.num_classes=3",
            "train_dataloader.batch_size=4",
            "train_dataloader.sampler.batch_size=4",
            "train_dataloader.num_workers=0",
            "train_dataloader.persistent_workers=False",
        ],
    )
    runner = train(cfg)
    assert runner.iter == 2
    assert (runner.model.student.side, runner.model.teacher.network.encoder.side) == (
        16,
        24,
    )
    assert set(runner.test()) == {"accuracy", "balanced_accuracy", "ece", "nll"}
    assert isinstance(runner.model.kd_head, nn.Linear)

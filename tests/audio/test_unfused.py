"""UnFuSeD: the loss by hand, where gradients stop, labels, views, fresh starts."""

import math
import wave

import numpy as np
import pytest
import torch

from pld_mmdet.audio.data.clips import Chirps, WaveFolder
from pld_mmdet.audio.data.labels import cluster_clips, purity
from pld_mmdet.audio.data.views import log_mix, resized_window, with_background
from pld_mmdet.audio.networks.audio_ntt import AudioNTT
from pld_mmdet.audio.networks.features import flat_log_mel, log_mel
from pld_mmdet.audio.unfused import UnFuSeD, max_and_mean, self_distillation
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from tests.toy_run import enter

DEEP = torch.tensor([[2.0, 0.0, 0.0]])
SHALLOW = torch.tensor([[1.0, 1.0, 0.0]])


def build(**changes) -> UnFuSeD:
    torch.manual_seed(0)
    config = dict(
        type="pld_mmdet.UnFuSeD",
        encoder=dict(type="pld_mmdet.AudioNTT", bins=16, width=4, dim=12),
        num_samples=24,
        num_classes=8,
        clusters=4,
        sample_rate=4000,
        window=256,
        hop=200,
        bins=16,
        projector=(8, 8),
    )
    return MODELS.build(config | changes)


class Loader:
    dataset = Chirps("train", 24)
    batch_size = 10
    collate_fn = staticmethod(torch.utils.data.default_collate)


def batch(n=8) -> dict:
    return Loader.collate_fn([Loader.dataset[i] for i in range(n)])


def test_loss_by_hand():
    """CE .239545 + .7 x .861995 + .3 x .302929 + .003 x .585786 = .935577."""
    found = self_distillation(DEEP, [SHALLOW], torch.tensor([0]))
    parts = {name: value.item() for name, value in found.items()}
    assert parts == pytest.approx(
        {
            "loss_ce": 0.239545,
            "loss_shallow": 0.7 * 0.861995,
            "loss_kl": 0.3 * 0.302929,
            "loss_cos": 0.003 * 0.585786,
        },
        abs=1e-6,
    )
    assert sum(parts.values()) == pytest.approx(0.935577, abs=1e-6)
    two = self_distillation(DEEP, [SHALLOW, DEEP], torch.tensor([0]), 1.0, 1.0, 1.0)
    assert two["loss_shallow"].item() == pytest.approx(0.861995 + 0.239545, abs=1e-6)
    assert two["loss_kl"].item() == pytest.approx(0.302929, abs=1e-6)
    alone = self_distillation(DEEP, [SHALLOW], torch.tensor([0]), 0, 0, 0)
    assert list(alone) == ["loss_ce"]
    shifted = self_distillation(DEEP, [DEEP + 3], torch.tensor([0]))
    assert shifted["loss_kl"].item() == pytest.approx(0, abs=1e-6)


def test_all_terms_are_means_over_the_sounds():
    """A second sound whose heads agree in direction: half of the first's cosine."""
    deep = torch.cat([DEEP, torch.tensor([[0.0, 0.0, 3.0]])])
    shallow = torch.cat([SHALLOW, torch.tensor([[0.0, 0.0, 1.0]])])
    found = self_distillation(deep, [shallow], torch.tensor([0, 2]))
    assert found["loss_cos"].item() == pytest.approx(0.003 * 0.585786 / 2, abs=1e-7)
    one, two = (
        self_distillation(deep[i : i + 1], [shallow[i : i + 1]], torch.tensor([y]))
        for i, y in ((0, 0), (1, 2))
    )
    for name in found:
        mean = (one[name] + two[name]).item() / 2
        assert found[name].item() == pytest.approx(mean, abs=1e-6), name


def test_the_deepest_head_learns_labels_alone():
    deep, shallow = DEEP.clone().requires_grad_(), SHALLOW.clone().requires_grad_()
    sum(self_distillation(deep, [shallow], torch.tensor([0])).values()).backward()
    expected = DEEP.softmax(1) - torch.tensor([[1.0, 0, 0]])
    assert torch.allclose(deep.grad, expected, atol=1e-6)
    assert shallow.grad.any()
    deep.grad = None
    both = self_distillation(deep, [shallow], torch.tensor([0]), detach=False)
    sum(both.values()).backward()
    assert not torch.allclose(deep.grad, expected, atol=1e-3)


def test_encoder_has_the_published_sizes():
    net = AudioNTT()
    assert net.block_dims == (2048, 1024, 512)
    # 640 + 2 x 36 928 of the convolutions, 3 x 128, and 512 x 2048, 2048 x 2048
    assert (
        sum(p.numel() for p in net.parameters())
        == 640 + 2 * 36_928 + 384 + (513 + 2049) * 2048
    )
    small = AudioNTT(bins=16, width=4, dim=12).eval()
    means, frames = small(torch.rand(3, 1, 16, 20))
    assert [tuple(x.shape) for x in means] == [(3, 32), (3, 16), (3, 8)]
    assert frames.shape == (3, 2, 12)
    x = torch.rand(1, 1, 16, 20)
    first = small.blocks[0](x)
    assert torch.allclose(small(x)[0][0], first.flatten(1, 2).mean(2), atol=1e-6)
    assert torch.allclose(small.features(x), small(x)[1].mean(1))
    assert max_and_mean(torch.tensor([[[1.0], [4.0]]])).item() == 6.5


def test_background_by_hand():
    """A quarter of energy 8 and three quarters of energy 2 are 3.5."""
    mel, other = torch.tensor([[2.0]]).log(), torch.tensor([[8.0]]).log()
    mixed = log_mix(mel, other, torch.tensor([0.25]))
    assert mixed.item() == pytest.approx(math.log(3.5), abs=1e-6)
    same = log_mix(mel, other, torch.tensor([0.0]))
    assert same.item() == pytest.approx(math.log(2), abs=1e-6)
    torch.manual_seed(0)
    mel = torch.randn(6, 4, 5)
    views = with_background(mel)
    floor = mel + math.log(0.6)
    assert (views >= floor - 1e-5).all()
    assert not torch.allclose(views, mel)


def test_windows_are_cut_from_a_canvas():
    torch.manual_seed(0)
    mel = torch.randn(5, 8, 10)
    whole = resized_window(mel, canvas=(1.0, 1.0), scale=(1.0, 1.0))
    assert torch.allclose(whole, mel, atol=1e-4)
    # all of a canvas of twice the length: zeros, the sound at half its length, zeros
    wide = resized_window(torch.ones(3, 8, 20), canvas=(1.0, 2.0), scale=(9.0, 9.0))
    assert torch.allclose(wide[:, 4, :4], torch.zeros(3, 4), atol=1e-5)
    assert torch.allclose(wide[:, 4, 7:13], torch.ones(3, 6), atol=1e-5)
    assert torch.allclose(wide[:, 4, 16:], torch.zeros(3, 4), atol=1e-5)
    assert not torch.allclose(resized_window(mel), mel)
    assert resized_window(mel[:0]).shape == (0, 8, 10)


def test_clusters_and_their_purity():
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    vectors = 20 * np.eye(3)[truth] + rng.normal(size=(60, 3))
    found = cluster_clips(vectors, 3, 2, seed=0)
    assert purity(found, truth) == 1.0
    assert sorted(np.bincount(found)) == [20, 20, 20]
    assert purity(np.array([0, 0, 0, 1, 1]), np.array([2, 2, 1, 0, 1])) == 0.6
    assert purity(np.zeros(0, int), np.zeros(0, int)) == 0.0
    with pytest.raises(UserError, match="2 sounds cannot make 3"):
        cluster_clips(vectors[:2], 3, 2, seed=0)


def test_labels_are_clusters_of_the_frozen_labeller():
    model = build()
    before = {k: v.clone() for k, v in model.labeller.state_dict().items()}
    model.train()
    model.enter_stage("labels")
    model.start_stage("labels", Loader(), None)
    assert sorted(model.labels.unique().tolist()) == [0, 1, 2, 3]
    waves = Loader.dataset.waves
    _, frames = model.labeller.eval()(model.mel(waves)[:, None])
    vectors = (frames.max(1).values + frames.mean(1)).detach().numpy()
    assert model.labels.tolist() == cluster_clips(vectors, 4, 128, 0).tolist()
    after = model.labeller.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    means, _ = model.labeller(model.mel(waves)[:, None])
    shallow = build(label_layer="first")
    assert torch.allclose(shallow.vectors(waves), means[0], atol=1e-5)
    with pytest.raises(UserError, match="sound 23 of num_samples=9"):
        build(num_samples=9).label(Loader())


def test_each_stage_trains_its_own():
    model = build()
    with pytest.raises(UserError, match="no labels to learn from"):
        model.start_stage("unfused", None, None)
    model.start_stage("labels", Loader(), None)
    expected = {
        "ssl": {"labeller", "projector"},
        "unfused": {"student", "classifier", "shallow"},
        "finetune": {"student", "head"},
    }
    for stage, parts in expected.items():
        enter(model, stage)
        model.train()
        sum(model.loss(**batch()).values()).backward()
        named = [(n, p.grad is not None) for n, p in model.named_parameters()]
        assert {n.split(".")[0] for n, learns in named if learns} == parts
        assert model.labeller.training == (stage == "ssl")


def test_pseudo_labels_meet_their_sounds(monkeypatch):
    model = build(alpha=0.0, beta=0.0, gamma=0.0, background=0.0)
    model.labels.copy_(torch.arange(24) % 4)
    monkeypatch.setattr(model, "mel", lambda waves, view=False: torch.ones(3, 16, 19))
    model.enter_stage("unfused")
    model.eval()
    data = dict(inputs=torch.zeros(3, 3800), index=torch.tensor([6, 1, 23]))
    deep = model.classifier(max_and_mean(model.student(torch.ones(3, 1, 16, 19))[1]))
    expected = torch.nn.functional.cross_entropy(deep, torch.tensor([2, 1, 3]))
    assert model.loss(**data)["loss_ce"].item() == pytest.approx(expected.item())


def test_who_hears_a_view():
    """Two for Barlow Twins, one for the student; labels and answers hear the sound."""
    model, data, asked = build(), batch(), []
    model.labels.copy_(torch.arange(24) % 4)
    mel = model.mel

    def heard(waves, view=False):
        asked.append(view)
        return mel(waves, view)

    model.mel = heard
    found = {}
    for stage in ("ssl", "unfused", "finetune"):
        model.enter_stage(stage)
        model.loss(**data)
        found[stage], asked[:] = list(asked), []
    assert found == {"ssl": [True, True], "unfused": [True], "finetune": [False]}
    model.vectors(data["inputs"])
    assert asked == [False]


def test_what_is_heard(monkeypatch):
    """(log-mel + 2) / 4; a view has background first and is a window at the end."""
    model, waves, calls = (
        build(mean=-2.0, std=4.0, background=0.25),
        batch()["inputs"],
        [],
    )
    plain = log_mel(waves, 4000, 256, 200, 16).transpose(1, 2)
    assert torch.allclose(model.mel(waves), (plain + 2) / 4, atol=1e-5)

    def background(mel, share):
        calls.append(share)
        return mel + 8

    def window(mel):
        calls.append("window")
        return 3 * mel

    monkeypatch.setattr("pld_mmdet.audio.unfused.with_background", background)
    monkeypatch.setattr("pld_mmdet.audio.unfused.resized_window", window)
    found = model.mel(waves, view=True)
    assert calls == [0.25, "window"]
    assert torch.allclose(found, 3 * ((plain + 2) / 4 + 2), atol=1e-4)
    model.background = 0.0
    model.mel(waves, view=True)
    assert calls[2:] == ["window"]
    model.mel(waves)
    assert len(calls) == 3


def test_pooling_of_pretraining_and_of_the_answer(monkeypatch):
    model, data, seen = build().eval(), batch(), []
    still = model.mel(data["inputs"])
    monkeypatch.setattr(model, "mel", lambda waves, view=False: still)
    model.enter_stage("ssl")
    model.eval()
    model.projector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.loss(**data)
    frames = model.labeller(still[:, None])[1]
    assert all(torch.allclose(x, max_and_mean(frames), atol=1e-6) for x in seen)
    assert len(seen) == 2
    mean = model.student(still[:, None])[1].mean(1)
    assert torch.allclose(model.outputs(data["inputs"]), model.head(mean), atol=1e-6)


def test_clusters_are_made_as_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "pld_mmdet.audio.unfused.cluster_clips",
        lambda vectors, *rest: asked.append(rest) or np.arange(len(vectors)) % 3,
    )
    model = build(clusters=3, components=6, labels_seed=5)
    model.label(Loader())
    assert asked == [(3, 6, 5)]
    assert model.labels.tolist() == [i % 3 for i in range(24)]


def test_the_fresh_encoder_follows_from_the_runs_dice():
    made = []
    for dice in (7, 7, 8):
        model = build()
        model.labels.zero_()
        model.dice.fill_(dice)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        model.start_stage("unfused", None, None)
        after = model.state_dict()
        for name in ("student.fc.0", "classifier", "shallow.0.0", "shallow.2.0"):
            key = f"{name}.weight"
            assert not torch.equal(before[key], after[key]), name
        assert torch.equal(before["head.weight"], after["head.weight"])
        made.append(after["student.fc.0.weight"])
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_where_fine_tuning_begins():
    model = build(start="labeller")
    model.start_stage("finetune", None, None)
    ours, theirs = model.student.state_dict(), model.labeller.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    model = build()
    model.labels.zero_()
    before = model.student.fc[0].weight.clone()
    model.start_stage("finetune", None, None)
    assert torch.equal(before, model.student.fc[0].weight)
    model.start_stage("unfused", None, None)  # from random weights
    assert not torch.equal(before, model.student.fc[0].weight)
    assert not torch.equal(model.student.fc[0].weight, model.labeller.fc[0].weight)


def test_chirps_glide_as_their_class_says():
    quiet = Chirps("test", 16, noise=0.0)
    for number in (0, 1, 6, 7):
        mel = log_mel(quiet[number]["inputs"][None], 4000, 256, 100, 64)[0]
        loud = mel.max(1).values.topk(8).indices.sort().values
        place = mel[loud].argmax(1).float()
        rises = (place[-3:].mean() > place[:3].mean()).item()
        assert rises == (number % 2 == 0)
    some = Chirps("train", 16, labelled=8)
    assert len(some) == 8
    assert torch.equal(some[3]["inputs"], Chirps("train", 16)[3]["inputs"])
    assert flat_log_mel(some.waves, sample_rate=4000).shape[0] == 8
    assert len(Chirps("train", 0)) == 0
    with pytest.raises(UserError, match="multiples of 8"):
        Chirps("train", 12)


def test_wave_files_in_folders(tmp_path):
    for name, value in (("cat/a", 1000), ("dog/b", -2000), ("dog/c", 3000)):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.full(50, value, np.int16).tobytes())
    data = WaveFolder(tmp_path, sample_rate=8000, size=60)
    assert len(data) == 3
    assert data.targets.tolist() == [0, 1, 1]
    assert data.metainfo["classes"] == ("cat", "dog")
    x = data[1]["inputs"]
    assert x[:50].tolist() == pytest.approx([-2000 / 32768] * 50)
    assert x[50:].abs().sum() == 0
    assert WaveFolder(tmp_path, 8000, 20)[2]["inputs"].shape == (20,)
    with pytest.raises(UserError, match="no WAV files in folders"):
        WaveFolder(tmp_path / "cat")


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="start='somewhere'"):
        build(start="somewhere")
    with pytest.raises(UserError, match="no work_dataloader"):
        build().start_stage("labels", None, None)

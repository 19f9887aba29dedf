"""SP2OT: the curriculum, the bank, the run; its transport is in tests/distill."""

import math

import numpy as np
import pytest
import torch
from mmengine.config import Config

from pld_mmdet.distill.transport import partial_ot
from pld_mmdet.engine.data.sampler import DrawIndex
from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS
from pld_mmdet.weak_supervision.data.cifar_views import CIFARViews
from pld_mmdet.weak_supervision.data.clustering import LongTailDigits, cluster_scores
from pld_mmdet.weak_supervision.sp2ot import SP2OT, CosineHead, sigmoid_ramp
from tests.weak_supervision.helpers import small_run, step


def test_ramp():
    found = [sigmoid_ramp(0.1, 1.0, t) for t in (0.0, 0.25, 0.5, 1.0)]
    assert found == pytest.approx([0.106064, 0.154049, 0.357854, 1.0], abs=1e-6)


def tiny(**changes) -> SP2OT:
    torch.manual_seed(0)
    options = dict(num_clusters=3, feat_dim=4, num_samples=12, top_k=2, lambda0=1.0)
    model = SP2OT(**{**options, **changes})
    model.progress = Progress(steps=10)
    return model


def batch(start: int = 0, size: int = 6) -> dict:
    generator = torch.Generator().manual_seed(start)
    views = torch.randn(2, size, 4, generator=generator)
    index = torch.arange(start, start + size)
    return {"view1": views[0], "view2": views[1], "index": index}


class TestModel:
    def test_views_swap_labels_whose_mass_is_the_ramp(self):
        model, data = tiny(lambda0=0.0), batch()
        losses = model.loss(**data)
        cost = [
            -model.head(data[v]).double().log_softmax(1) for v in ("view1", "view2")
        ]
        q1, q2 = (6 * partial_ot(c, sigmoid_ramp(0.1, 1, 0))[0] for c in cost)
        expected = (q2 * cost[0] + q1 * cost[1]).sum(1).mean()
        assert losses["loss_ot"].item() == pytest.approx(expected.item(), rel=1e-4)
        assert losses["mass"].item() == pytest.approx(0.106064, abs=1e-4)
        assert not losses["mass"].requires_grad

    def test_a_cosine_by_hand(self):
        """(3, 4) against (0, 2) and (-1, 0): .8 and -.6, five times."""
        head = CosineHead(2, 2, scale=5.0)
        head.prototypes.data.copy_(torch.tensor([[0.0, 2.0], [-1.0, 0.0]]))
        found = head(torch.tensor([[3.0, 4.0]]))[0]
        assert found.tolist() == pytest.approx([4, -3], abs=1e-6)
        assert head(torch.zeros(0, 2)).shape == (0, 2)

    def test_what_is_solved_and_what_becomes_of_it(self, monkeypatch):
        """A solver that gives 1/4, 2/4, 3/4 and all of the mass, call by call.

        Half-way rho is .357854; image i has the similarity (i + 1) / 10 to i + 1.
        """
        calls = []

        def solve(cost, similarity, rho, lam, potentials, **_):
            calls.append((cost, similarity, rho, lam, potentials.clone()))
            plan = torch.full_like(cost, len(calls) / 4 / cost.numel())
            return plan, torch.full_like(potentials, len(calls))

        name = "pld_mmdet.weak_supervision.sp2ot.semantic_partial_ot"
        monkeypatch.setattr(name, solve)
        model, number = tiny(lambda0=8.0, bank=4), torch.arange(12)
        model.neighbours.copy_(torch.stack([(number + 1) % 12, (number + 2) % 12], 1))
        model.similarity.copy_(torch.stack([(number + 1) / 10, (number + 1) / 20], 1))
        model.progress.step = 5
        first, second = batch(0), batch(6)
        banked = model.head(first["view2"])[2:]
        assert model.loss(**first)["mass"].item() == pytest.approx(3 / 8)
        assert model.loss(**second)["mass"].item() == pytest.approx(7 / 8)
        for call in calls:
            assert call[2:4] == pytest.approx((0.357854, 8 * 0.642146), abs=1e-5)
        starts = [call[4].unique().tolist() for call in calls]
        assert starts == [[0.0], [0.0], [1.0], [2.0]]
        similar = calls[2][1]  # of images 2 to 5 in the bank and 6 to 11
        assert similar.shape == (10, 10)
        assert similar[0, 1].item() == pytest.approx(0.3)
        assert similar[0, 2].item() == pytest.approx(0.15)
        assert similar[1, 0].item() == similar[0, 0].item() == 0
        logits = torch.cat([banked, model.head(second["view1"])])
        cost = -logits.double().log_softmax(1)
        assert torch.allclose(calls[2][0], cost, atol=1e-5)

    def test_the_curriculum_follows_the_run(self):
        """t / T = 5 / 10: 0.357854; at the end all mass."""
        model = tiny(lambda0=0.0)
        for done, mass in ((5, 0.357854), (10, 1.0)):
            model.progress.step = done
            found = model.loss(**batch())["mass"].item()
            assert found == pytest.approx(mass, abs=1e-4)

    def test_the_bank_is_first_in_first_out_of_view_2(self):
        model = tiny(lambda0=0.0, bank=8)
        first, second = batch(0), batch(6)
        model.loss(**first)
        assert model.banked.item() == 6
        before = model.head(second["view2"])
        model.loss(**second)
        assert model.bank_index.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
        assert torch.equal(model.bank_logits[2:], before)

    def test_the_bank_begins_full_of_images_from_all_over_the_set(self, tmp_path):
        model = tiny(lambda0=0.0, bank=4, prefill=True)
        data = {**batch(size=12), "view2": None}
        loader = [{k: v[i : i + 6] for k, v in data.items() if v is not None}
                  for i in (6, 0)]  # fmt: skip
        model.start_stage("cluster", loader, tmp_path)
        assert model.bank_index.tolist() == [0, 4, 7, 11]
        expected = model.head(data["view1"][[0, 4, 7, 11]])
        assert torch.allclose(model.bank_logits, expected, atol=1e-6)
        assert not model.bank_logits.requires_grad
        assert model.banked == 4
        model.bank_logits.zero_()
        model.start_stage("cluster", loader, tmp_path)  # resumed: as it was
        assert not model.bank_logits.any()

    def test_similarities_of_the_initial_features(self, tmp_path):
        model = tiny()
        x = torch.tensor([0.0, 1.0, 3.0, 7.0] * 3)[:, None].expand(-1, 4) * 0.5
        x = x + torch.arange(12)[:, None] * 100.0 // 400 * 100
        loader = [
            dict(view1=x[rows], index=rows)
            for rows in (torch.arange(6, 12), torch.arange(6))
        ]
        model.start_stage("cluster", loader, tmp_path)
        assert model.neighbours[0].tolist() == [1, 2]
        # d^2 = 4 * 0.5^2, width 2 * 2^2 * 4
        assert model.similarity[0, 0].item() == pytest.approx(math.exp(-1 / 32))
        some = model.similarities(torch.tensor([0, 1, 5, 0]))
        assert some.shape == (4, 4)
        assert some[0, 1] == some[3, 1] == model.similarity[0, 0]
        assert some[0, 2] == some[0, 0] == 0
        with pytest.raises(UserError, match="6 images for num_samples=12"):
            model.start_stage("cluster", loader[:1], tmp_path)

    def test_what_is_made_before_the_stage_wants_all_images(self):
        for options, wanted in (
            (dict(lambda0=0.0), False),
            (dict(lambda0=1.0), True),
            (dict(lambda0=0.0, prefill=True), True),
        ):
            assert bool(tiny(**options).wants_work("cluster")) == wanted

    def test_what_the_published_setting_leaves_to_the_defaults(self):
        model = tiny()
        assert model.head.scale == CosineHead(4, 3).scale == 10
        limits = dict(rounds=100, max_iterations=1000)
        assert model.solver == dict(epsilon=0.1, gamma=1.0, **limits)

    def test_labels_get_no_gradient(self):
        model = tiny()
        logits = torch.randn(2, 6, 3, requires_grad=True)
        labels = model.pseudo_labels((logits[0], logits[1]), torch.arange(6))
        assert not any(q.requires_grad for q in labels)


class TestData:
    def test_long_tail(self):
        data = LongTailDigits()
        counts = data.targets.bincount().tolist()
        assert len(data) == 532
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == 10 * counts[9]
        one, two = data[DrawIndex(3, 7, 5)], data[DrawIndex(3, 7, 5)]
        assert torch.equal(one["view1"], two["view1"])
        assert not torch.equal(one["view1"], one["view2"])
        assert not torch.equal(one["view1"], data[DrawIndex(3, 8, 5)]["view1"])
        assert not torch.equal(one["view1"], data[DrawIndex(3, 7, 6)]["view1"])

    def test_scores(self):
        perfect = cluster_scores(np.array([[0, 3], [5, 0]]))
        assert perfect == pytest.approx(
            dict(accuracy=1, balanced=1, macro_f1=1, nmi=1), abs=1e-9
        )
        found = cluster_scores(np.array([[3, 1], [2, 2]]))
        assert found["accuracy"] == 5 / 8
        assert found["balanced"] == pytest.approx((3 / 4 + 2 / 4) / 2)
        assert found["macro_f1"] == pytest.approx((6 / 9 + 4 / 7) / 2)
        blind = cluster_scores(np.array([[2, 2], [2, 2]]))
        assert blind["nmi"] == pytest.approx(0, abs=1e-9)

    def test_cifar_binary(self, tmp_path):
        record = np.zeros((6, 3074), np.uint8)
        record[:, 1] = [0, 1, 0, 0, 0, 1]
        record[2, 2] = 255  # red, top left
        record.tofile(tmp_path / "train.bin")
        changes = dict(data_root=str(tmp_path), part="train", classes=100)
        data = CIFARViews(**changes, augment=False)
        assert len(data) == 6
        assert data[2]["inputs"][:, 0, 0].tolist() == [1.0, 0.0, 0.0]
        tail = CIFARViews(**changes, imbalance=0.6**-99, views=2, size=40, resize=48)
        assert tail.targets.bincount().tolist() == [4, 2]
        assert tail[0]["view2"].shape == (3, 40, 40)
        record.tofile(tmp_path / "test_batch.bin")
        with pytest.raises(UserError, match=r"no whole images of 3073"):
            CIFARViews(str(tmp_path), "test")


def test_toy_config_runs_saves_and_resumes(tmp_path):
    changes = {
        "train_cfg.stages.0.max_iters": 4,
        "train_dataloader.batch_size": 32,
        "model.bank": 40,
        "model.rounds": 3,
    }
    checkpoint, runner = small_run(
        "configs/sp2ot/toy.py", tmp_path, changes, last="iter_4.pth", stop=2
    )
    assert checkpoint["state_dict"]["banked"] == 40
    assert checkpoint["state_dict"]["similarity"].min() > 0
    metrics = runner.test()
    assert 0.1 < metrics["accuracy"] <= 1


@pytest.mark.parametrize("name", ["uniform", "relaxed", "p2ot"])
def test_rows_are_special_cases(name):
    cfg = Config.fromfile(f"configs/sp2ot/{name}.py").model
    model = MODELS.build(cfg)
    assert model.lambda0 == 0
    assert model.solver["gamma"] == (math.inf if name == "uniform" else 1.0)
    assert model.rho_start == (0.1 if name == "p2ot" else 1.0)


def test_paper_config_steps():
    cfg = Config.fromfile("configs/sp2ot/paper.py")
    assert cfg.num_samples == sum(int(500 * 0.01 ** (c / 99)) for c in range(100))
    assert cfg.model.bank == 9 * 512
    cfg.model.backbone.weights = None
    cfg.model.backbone.config = dict(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    cfg.model.update(num_samples=8, feat_dim=16, num_clusters=4, bank=8, top_k=2)
    model = MODELS.build(cfg.model)
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert "head.prototypes" in learns
    assert all("layers.1." in n or n == "head.prototypes" for n in learns)
    model.progress = Progress(steps=10)
    data = {f"view{i}": torch.rand(4, 3, 32, 32) for i in (1, 2)}
    values = step(model, {**data, "index": torch.arange(4)}, lr=5e-4)
    assert torch.isfinite(values["loss"])

"""Banks, queues and prototypes: hand-worked numbers."""

import copy

import pytest
import torch

from pld_mmdet.distill import memory as memories
from pld_mmdet.distill.memory import FeatureQueue, PrototypeQueue, SampleBank
from pld_mmdet.errors import UserError


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float)[:, None]


def zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.long)


class TestRing:
    def test_rows_one_at_a_time(self):
        memory = PrototypeQueue(num_classes=2, feat_dim=1, length=8)
        for value in range(25):
            memory.push(rows(value), zeros(1))
            assert bool(memory.full[0]) == (value >= 7)
        assert memory.pointer.tolist() == [1, 0]
        assert memory.full.tolist() == [True, False]
        memory.init_prototypes()
        assert memory.prototypes.flatten().tolist() == [20.5, 0.0]  # mean of 17..24

    def test_one_call_with_more_rows_than_places(self):
        memory = PrototypeQueue(num_classes=1, feat_dim=1, length=128)
        memory.push(rows(*[-1.0] * 5), zeros(5))
        memory.push(rows(*range(150)), zeros(150))
        assert memory.pointer.item() == 5
        assert memory.full.item()
        stored = memory.queue[0, :, 0].roll(-5)
        assert stored.tolist() == list(range(128))

    def test_equals_a_loop_over_rows(self):
        torch.manual_seed(0)
        memory = PrototypeQueue(num_classes=3, feat_dim=2, length=7)
        queue = torch.zeros(3, 7, 2)
        pointer, filled = [0] * 3, [0] * 3
        for _ in range(6):
            features = torch.randn(11, 2)
            labels = torch.randint(-1, 5, (11,))  # also background and unknown
            memory.push(features, labels)
            taken = [0] * 3
            for feature, label in zip(features, labels.tolist(), strict=True):
                if 0 <= label < 3 and taken[label] < 7:
                    queue[label, pointer[label]] = feature
                    pointer[label] = (pointer[label] + 1) % 7
                    filled[label] = min(7, filled[label] + 1)
                    taken[label] += 1
        assert torch.equal(memory.queue, queue)
        assert memory.pointer.tolist() == pointer
        assert memory.counts.tolist() == filled

    def test_nothing_to_store(self):
        memory = PrototypeQueue(num_classes=2, feat_dim=3, length=4)
        memory.push(torch.zeros(0, 3), zeros(0))
        memory.push(torch.ones(2, 3), torch.tensor([2, 3]))
        assert memory.queue.abs().sum() == 0
        assert memory.counts.tolist() == [0, 0]

    def test_no_gradient_is_kept(self):
        memory = PrototypeQueue(num_classes=1, feat_dim=1)
        memory.push(rows(1.0).requires_grad_(), zeros(1))
        memory.init_prototypes()
        assert not memory.queue.requires_grad
        assert not memory.soft_labels(rows(1.0).requires_grad_()).requires_grad

    def test_half_precision_features_are_stored_in_single(self):
        memory = PrototypeQueue(num_classes=1, feat_dim=1)
        memory.push(rows(0.5).bfloat16(), zeros(1))
        assert memory.queue.dtype == torch.float32
        assert memory.queue[0, 0, 0] == 0.5


class TestPrototypes:
    def test_half_of_the_old_and_half_of_the_mean(self):
        memory = PrototypeQueue(num_classes=1, feat_dim=1, length=4)
        memory.push(rows(2.0), zeros(1))
        memory.init_prototypes()
        assert memory.prototypes.item() == 2.0
        memory.push(rows(6.0), zeros(1))  # mean (2 + 6) / 2 = 4
        memory.update_prototypes()
        assert memory.prototypes.item() == 3.0
        memory.update_prototypes()  # nothing new: towards the mean all the same
        assert memory.prototypes.item() == 3.5

    @pytest.mark.parametrize(
        ("momentum", "expected"), [(0.0, 4.0), (0.75, 2.5), (1.0, 2.0)]
    )
    def test_momentum_is_the_share_that_stays(self, momentum, expected):
        memory = PrototypeQueue(num_classes=1, feat_dim=1, momentum=momentum)
        memory.push(rows(2.0), zeros(1))
        memory.init_prototypes()
        memory.push(rows(6.0), zeros(1))
        memory.update_prototypes()
        assert memory.prototypes.item() == expected

    def test_a_class_without_features_drifts_to_zero(self):
        memory = PrototypeQueue(num_classes=2, feat_dim=1)
        memory.prototypes.fill_(8.0)
        memory.push(rows(8.0), zeros(1))
        for _ in range(3):
            memory.update_prototypes()
        assert memory.prototypes.flatten().tolist() == [8.0, 1.0]

    def test_resumes_from_a_state_dict(self):
        torch.manual_seed(1)
        whole = PrototypeQueue(num_classes=2, feat_dim=3, length=4)
        whole.push(torch.randn(5, 3), torch.tensor([0, 1, 0, 0, 0]))
        whole.init_prototypes()
        resumed = PrototypeQueue(num_classes=2, feat_dim=3, length=4)
        resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        more = torch.randn(3, 3)
        for memory in (whole, resumed):
            memory.push(more, torch.tensor([1, 1, 0]))
            memory.update_prototypes()
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name


class TestSoftLabels:
    def test_hand_worked(self):
        """Cosines .9, .5, .1 with three prototypes."""
        memory = PrototypeQueue(num_classes=3, feat_dim=2)
        cosines = torch.tensor([0.9, 0.5, 0.1])
        sines = (1 - cosines**2).sqrt()
        memory.prototypes.copy_(torch.stack([cosines, sines], 1) * 7)
        labels = memory.soft_labels(torch.tensor([[3.0, 0.0]]))
        expected = torch.tensor([[0.981690, 0.017980, 0.000329, 0.0]])
        assert torch.allclose(labels, expected, atol=1e-6)
        assert labels[0, 3] == 0

    def test_zero_vectors_have_cosine_zero(self):
        memory = PrototypeQueue(num_classes=2, feat_dim=2)
        memory.prototypes[0] = torch.tensor([1.0, 0.0])
        labels = memory.soft_labels(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), scale=1.0)
        e = torch.e
        expected = torch.tensor([[e / (e + 1), 1 / (e + 1), 0], [0.5, 0.5, 0]])
        assert torch.allclose(labels, expected, atol=1e-6)

    def test_no_rows(self):
        assert PrototypeQueue(2, 3).soft_labels(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(num_classes=0),
        dict(feat_dim=0),
        dict(length=0),
        dict(momentum=1.5),
        dict(momentum=-0.5),
    ],
)
def test_sizes_out_of_range(arguments):
    with pytest.raises(ValueError, match="must"):
        PrototypeQueue(**{"num_classes": 2, "feat_dim": 3, **arguments})


def test_shapes_that_do_not_fit():
    memory = PrototypeQueue(2, 3)
    for shape in ((2, 4), (2, 2), (1, 3), (3, 3), (2,), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"expected features \[2, 3\]"):
            memory.push(torch.zeros(shape), zeros(2))


def test_bank_stays_in_float32_and_forgets_what_is_not_finite():
    bank = SampleBank(3, 2)
    bank.half()
    assert bank.rows.dtype == torch.float32
    bad = torch.tensor([[0.5, float("nan")], [0.25, 0.75]])
    bank.write(torch.tensor([0, 1]), bad)
    assert bank.rows.tolist() == [[0, 0], [0.25, 0.75], [0, 0]]
    assert bank.state_dict().keys() == {"rows"}


def test_bank_stores_the_rows_of_all_processes(monkeypatch):
    """As on two processes: this one has image 0, the other one image 2."""
    theirs = iter([torch.tensor([2]), torch.tensor([[0.1, 0.9]])])
    monkeypatch.setattr(
        memories, "gathered", lambda mine: torch.cat([mine, next(theirs)])
    )
    bank = SampleBank(3, 2)
    bank.write(torch.tensor([0]), torch.tensor([[0.25, 0.75]]))
    expected = torch.tensor([[0.25, 0.75], [0, 0], [0.1, 0.9]])
    assert torch.equal(bank.rows, expected)


def test_bank_reads_by_number():
    bank = SampleBank(4, 2)
    bank.write(torch.tensor([3, 1]), torch.tensor([[0.1, 0.9], [0.3, 0.7]]))
    expected = torch.tensor([[0.3, 0.7], [0, 0], [0.1, 0.9]])
    assert torch.equal(bank.read(torch.tensor([1, 0, 3])), expected)
    assert bank.read(torch.zeros(0, dtype=torch.long)).shape == (0, 2)
    source = torch.ones(1, 2, requires_grad=True)
    bank.write(torch.tensor([0]), source)
    assert not bank.rows.requires_grad


class TestFeatureQueue:
    def test_first_in_first_out(self):
        queue = FeatureQueue(size=5, fields=1)
        assert queue.read().shape == (0, 1)
        queue.push(rows(1, 2, 3))
        assert len(queue) == 3
        assert queue.read().flatten().tolist() == [1, 2, 3]
        queue.push(rows(4, 5, 6, 7))
        assert len(queue) == 5
        assert queue.read().flatten().tolist() == [3, 4, 5, 6, 7]
        queue.push(rows(8))
        assert queue.read().flatten().tolist() == [4, 5, 6, 7, 8]
        assert queue.written.item() == 8

    def test_more_rows_than_places_in_one_call(self):
        queue = FeatureQueue(size=3, fields=1)
        queue.push(rows(0))
        queue.push(rows(*range(1, 12)))
        assert queue.read().flatten().tolist() == [9, 10, 11]
        queue.push(rows(12))
        assert queue.read().flatten().tolist() == [10, 11, 12]

    def test_equals_a_list(self):
        torch.manual_seed(0)
        queue, kept = FeatureQueue(size=7, fields=2), torch.zeros(0, 2)
        for count in (3, 0, 6, 1, 9, 7, 2):
            new = torch.randn(count, 2)
            queue.push(new)
            kept = torch.cat([kept, new])[-7:]
            assert torch.equal(queue.read(), kept)

    def test_several_fields_stay_together(self):
        queue = FeatureQueue(size=2, fields=dict(key=2, score=1))
        keys = torch.tensor([[1.0, 2.0], [float("inf"), 4.0], [5.0, 6.0]])
        queue.push(dict(score=rows(0.1, 0.2, 0.3), key=keys))
        found = queue.read()
        assert found["key"].tolist() == [[1, 2], [5, 6]]
        assert torch.equal(found["score"], rows(0.1, 0.3))
        assert queue.state_dict().keys() == {"rows_key", "rows_score", "written"}

    def test_reading_is_a_copy_and_nothing_gets_a_gradient(self):
        queue = FeatureQueue(size=2, fields=1)
        queue.push(rows(1.0).requires_grad_())
        queue.push(rows(3.0).bfloat16())
        read = queue.read()
        assert read.dtype == torch.float32
        assert not read.requires_grad
        read.zero_()
        assert queue.read().flatten().tolist() == [1, 3]

    def test_resumes_from_a_state_dict(self):
        whole, resumed = (FeatureQueue(size=3, fields=1) for _ in range(2))
        whole.push(rows(1, 2, 3, 4))
        resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        for queue in (whole, resumed):
            queue.push(rows(5))
            assert queue.read().flatten().tolist() == [3, 4, 5]

    def test_stores_the_rows_of_all_processes(self, monkeypatch):
        theirs = rows(7.0, 8.0)
        monkeypatch.setattr(
            memories, "gathered", lambda mine: torch.cat([mine, theirs])
        )
        queue = FeatureQueue(size=9, fields=1)
        queue.push(rows(1.0, 2.0))
        assert queue.read().flatten().tolist() == [1, 2, 7, 8]

    def test_what_does_not_fit(self):
        for size, fields in ((0, 3), (2, 0), (2, {}), (2, dict(a=1, b=0))):
            with pytest.raises(UserError, match="hold nothing"):
                FeatureQueue(size, fields)
        queue = FeatureQueue(4, dict(a=2, b=1))
        a, b = torch.zeros(3, 2), torch.zeros(3, 1)
        for wrong in (
            dict(a=a),
            dict(a=a, b=a),
            dict(a=a, b=b[:2]),
            dict(a=a, c=b),
            {},
        ):
            with pytest.raises(UserError, match="for fields"):
                queue.push(wrong)
        with pytest.raises(UserError, match=r"rows \{'rows': \(2,\)\}"):
            FeatureQueue(4, 2).push(torch.zeros(2))
        assert len(queue) == 0

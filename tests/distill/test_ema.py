"""The EMA: arithmetic, pairing, buffers, ramp."""

import copy

import pytest
import torch
from torch import nn

from pld_mmdet.distill.ema import Pairing, ema_update, paired_tensors, ramped_keep
from pld_mmdet.distill.teachers import Averaged, Frozen


def pair(make=lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))):
    torch.manual_seed(0)
    teacher = make()
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
        student[1].running_mean.add_(2.0)
        student[1].num_batches_tracked.fill_(7)
    return teacher, student


def test_hand_worked_number():
    teacher, student = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(teacher.weight, 1.0)
    nn.init.constant_(student.weight, 3.0)
    ema_update(teacher, student, keep=0.75)
    assert teacher.weight.item() == 1.5
    assert student.weight.item() == 3.0


def test_tensors_are_paired_by_name():
    teacher, student = pair()
    parameters, buffers = paired_tensors(Frozen(teacher), student)
    assert [ours is theirs for ours, theirs in parameters] == [False] * 4
    assert parameters[2][0] is teacher[1].weight
    assert parameters[2][1] is student[1].weight
    assert [
        b is student[1]._buffers[n]
        for (_, b), n in zip(
            buffers, ("running_mean", "running_var", "num_batches_tracked"), strict=True
        )
    ] == [True] * 3
    with pytest.raises(ValueError, match="only in the student"):
        paired_tensors(teacher[0], student)


def test_a_wrapped_teacher_stands_for_its_network():
    _, student = pair()
    teacher = Averaged(student)
    start = student[0].weight.detach().clone()
    with torch.no_grad():
        student[0].weight.add_(4.0)
    ema_update(teacher, student, keep=0.75)
    assert torch.allclose(teacher.network[0].weight, start + 1.0)
    ema_update(student, Frozen(teacher), keep=0.0)  # also inside each other
    assert torch.equal(student[0].weight, teacher.network[0].weight)


@pytest.mark.parametrize(
    ("buffers", "mean"), [("average", 0.5), ("copy", 2.0), ("keep", 0.0)]
)
def test_buffer_policy(buffers, mean):
    teacher, student = pair()
    ema_update(teacher, student, keep=0.75, buffers=buffers)
    assert torch.allclose(teacher[1].running_mean, torch.full((4,), mean))
    assert teacher[1].num_batches_tracked.item() == (0 if buffers == "keep" else 7)


def test_keep_one_changes_nothing_and_keep_zero_copies_exactly():
    teacher, student = pair()
    before = copy.deepcopy(teacher.state_dict())
    ema_update(teacher, student, keep=1.0, buffers="keep")
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])
    ema_update(teacher, student, keep=0.0)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, student.state_dict()[name])


def test_pairs_by_name_not_by_order():
    teacher = nn.ModuleDict(dict(a=nn.Linear(2, 2), b=nn.Linear(2, 2)))
    student = nn.ModuleDict(dict(b=nn.Linear(2, 2), a=nn.Linear(2, 2)))
    ema_update(teacher, student, keep=0.0)
    assert torch.equal(teacher["a"].weight, student["a"].weight)
    assert torch.equal(teacher["b"].weight, student["b"].weight)


def test_misfit_is_named_and_changes_nothing():
    teacher = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    student = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 4), nn.BatchNorm1d(4))
    before = copy.deepcopy(teacher.state_dict())
    with pytest.raises(ValueError, match="do not fit") as error:
        ema_update(teacher, student, keep=0.5)
    missing = ["bias", "num_batches_tracked", "running_mean", "running_var", "weight"]
    assert str(error.value).splitlines()[1:] == [
        "  1.bias: teacher (3,), student (4,)",
        "  1.weight: teacher (3, 2), student (4, 2)",
        *(f"  2.{name}: only in the student" for name in missing),
    ]
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])
    with pytest.raises(ValueError, match="do not fit") as error:
        Pairing(student, teacher)
    assert str(error.value).splitlines()[1:] == [
        "  1.bias: teacher (4,), student (3,)",
        "  1.weight: teacher (4, 2), student (3, 2)",
        *(f"  2.{name}: only in the teacher" for name in missing),
    ]


def test_tied_tensor_moves_once():
    def tied():
        net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        net[1].weight = net[0].weight
        return net

    teacher, student = tied(), tied()
    nn.init.constant_(teacher[0].weight, 0.0)
    nn.init.constant_(student[0].weight, 1.0)
    ema_update(teacher, student, keep=0.5)
    assert torch.equal(teacher[0].weight, torch.full((2, 2), 0.5))


def test_nothing_to_average():
    ema_update(nn.Identity(), nn.Identity(), keep=0.5)
    teacher, student = nn.Module(), nn.Module()
    for module, count in ((teacher, 1), (student, 5)):
        module.register_buffer("seen", torch.tensor(count))
    ema_update(teacher, student, keep=0.75)
    assert teacher.seen.item() == 5  # whole numbers are copied


@pytest.mark.parametrize("buffers", ["average", "copy"])
@pytest.mark.parametrize("keep", [0.9996, 0.75, 0.3])
def test_one_call_for_all_tensors_is_a_lerp_of_each_bit_for_bit(keep, buffers):
    """Also where the two networks, or the layers of one, have several dtypes."""
    teacher, student = pair()
    teacher.append(nn.Linear(4, 37).double())
    student.append(nn.Linear(4, 37).bfloat16())
    student[0].half()
    wanted, other = teacher.state_dict(), student.state_dict()
    for name, value in wanted.items():
        copied = "tracked" in name or (buffers == "copy" and "running" in name)
        theirs = other[name].to(value)
        wanted[name] = theirs if copied else torch.lerp(value, theirs, 1.0 - keep)
    ema_update(teacher, student, keep, buffers)
    assert len(wanted) == 9
    for name, value in teacher.state_dict().items():
        assert value.dtype is wanted[name].dtype
        assert torch.equal(value, wanted[name]), name


def test_teacher_keeps_its_dtype():
    teacher, student = nn.Linear(2, 2), nn.Linear(2, 2).bfloat16()
    ema_update(teacher, student, keep=0.5)
    assert teacher.weight.dtype == torch.float32


@pytest.mark.parametrize("keep", [-0.1, 1.1])
def test_keep_out_of_range(keep):
    with pytest.raises(ValueError, match="keep"):
        ema_update(nn.Linear(1, 1), nn.Linear(1, 1), keep)
    with pytest.raises(ValueError, match="buffers"):
        ema_update(nn.Linear(1, 1), nn.Linear(1, 1), 0.5, buffers="skip")


def test_ramp():
    assert ramped_keep(0, 0.99) == 0.0  # the first update is a copy
    assert ramped_keep(1, 0.99) == 0.5
    assert ramped_keep(9, 0.99, warm_up=10) == pytest.approx(1 - 11 / 20)
    assert ramped_keep(10**6, 0.99) == 0.99
    values = [ramped_keep(s, 0.999, warm_up=3) for s in range(50)]
    assert values == sorted(values)


def test_ramp_from_zero_is_the_plain_mean_of_the_student():
    teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for step, value in enumerate([4.0, 8.0, 3.0]):
        nn.init.constant_(student.weight, value)
        ema_update(teacher, student, ramped_keep(step, 0.999))
    assert teacher.weight.item() == pytest.approx(5.0)


def paired():
    torch.manual_seed(0)
    teacher, student = (
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2)
    )
    student(torch.randn(5, 3))  # moves its statistics and its counter
    return teacher, student


@pytest.mark.parametrize("buffers", ["average", "copy", "keep"])
def test_a_pairing_is_the_update_again_and_again(buffers):
    teacher, student = paired()
    twin = copy.deepcopy(teacher)
    pairs = Pairing(teacher, student, buffers)
    for keep in (0.75, 0.9, 1.0, 0.0):
        pairs.update(keep)
        ema_update(twin, student, keep, buffers)
        student(torch.randn(5, 3))
        for ours, theirs in zip(
            teacher.state_dict().values(), twin.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs)
    assert pairs.fits(teacher, student)
    assert not pairs.fits(twin, student)


def test_a_pairing_finds_a_tensor_that_a_module_has_replaced():
    teacher, student = paired()
    pairs = Pairing(teacher, student)
    student[1].running_mean = torch.full((4,), 8.0)
    before = teacher[1].running_mean.clone()
    teacher.double()
    pairs.update(0.75)
    assert torch.allclose(teacher[1].running_mean, 0.75 * before.double() + 2.0)
    assert teacher[1].running_mean.dtype is torch.double


def test_a_pairing_refuses_what_does_not_fit_before_anything_moves():
    with pytest.raises(ValueError, match="do not fit together"):
        Pairing(nn.Linear(2, 2), nn.Linear(2, 3))
    with pytest.raises(ValueError, match="buffers must be"):
        Pairing(nn.Linear(2, 2), nn.Linear(2, 2), "swap")
    with pytest.raises(ValueError, match="keep must lie"):
        Pairing(nn.Linear(2, 2), nn.Linear(2, 2)).update(1.5)

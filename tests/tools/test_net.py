"""tools/net.py: what it calls a difference, and a line that repeats."""

import importlib.util
import sys

import pytest
import torch

from pld_mmdet.catalogue import ROOT


@pytest.fixture(scope="module")
def net():
    spec = importlib.util.spec_from_file_location("net", ROOT / "tools/net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(net, loss="1.25", **state):
    tensors = net.tensors(state, "model")
    return dict(steps=[dict(loss=loss)], metrics=[], state=tensors)


def test_one_bit_is_a_difference_and_is_named(net):
    before = record(net, a=torch.tensor([1.0, -3.0]), b=torch.ones(2))
    after = record(net, a=torch.tensor([1.0, -3.0000002]), b=torch.ones(2))
    assert net.differences(before, after) == (["model.a differs"], [])
    assert net.differences(before, before) == ([], [])
    found, _ = net.differences(record(net), record(net, loss="1.2500000000000002"))
    assert found == ["steps 1: loss was 1.25, is 1.2500000000000002"]


def test_another_metric_is_told_and_a_lost_one_is_a_difference(net):
    before, after = record(net), record(net)
    before["metrics"], after["metrics"] = [dict(ap="0.3")], [dict(ap="0.3", f1="0.1")]
    assert net.differences(before, after) == ([], ["the metric f1 is new"])
    assert net.differences(after, before) == (["metrics 1: f1 was 0.1, is None"], [])


def test_minus_zero_and_another_type_are_differences(net):
    zero = torch.zeros(3)
    for other in (-zero, zero.double(), zero.view(1, 3)):
        assert net.differences(record(net, a=zero), record(net, a=other))[0]


def test_another_name_is_none_but_a_lost_tensor_is(net):
    weight, other = torch.tensor([2.0, 5.0]), torch.tensor([7.0, 1.0])
    before = record(net, old=weight)
    assert net.differences(before, record(net, new=weight)) == ([], [])
    found, told = net.differences(before, record(net, new=other))
    assert found == ["model.old is gone"]
    assert told == ["model.new is new"]


def test_a_counter_that_moved_is_told(net):
    before = record(net, step=torch.tensor(4))
    assert net.differences(before, record(net)) == (
        [],
        ["the number model.step# is gone"],
    )


def test_compares_with_a_file_and_refuses_unknown_lines(
    net, tmp_path, monkeypatch, capfd
):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tools/net.py", *map(str, words)])
        return net.main(net.parse_args()), capfd.readouterr().out

    monkeypatch.chdir(ROOT)  # and back
    path = tmp_path / "net.txt"
    assert run("--only", "bd_kd", "--out", path)[0] == 0
    assert run("--only", "bd_kd", "--compare", path)[0] == 0
    path.write_text(path.read_text().replace('"loss": "', '"loss": "1', 1))
    code, said = run("--only", "bd_kd", "--compare", path)
    assert code == 1
    assert "DIFFERENT: bd_kd" in said
    code, said = run("--only", "no_such_line")
    assert code == 2
    assert "fix:" in said


def test_values_keep_their_type_and_place(net):
    tree = dict(b=[1, dict(c=2.0)], a=((), "x"), empty={}, none=None)
    assert net.configs.leaves(tree) == {
        "b[0]": "1",
        "b[1].c": "2.0",
        "a(0)": "()",
        "a(1)": "'x'",
        "empty": "{}",
        "none": "None",
    }


def test_a_name_of_a_config_itself_is_told_and_what_a_run_reads_is_a_difference(net):
    leaves = net.configs.leaves
    before = leaves(dict(model=dict(sizes=(3, 4), tau=1), helper=[5], kept=6))
    after = leaves(dict(model=dict(sizes=[3, 4]), kept=7))
    found, told = net.configs.differences(before, after)
    assert found == [
        "model.sizes(0) was 3, is None",
        "model.sizes(1) was 4, is None",
        "model.tau was 1, is None",
        "model.sizes[0] was None, is 3",
        "model.sizes[1] was None, is 4",
    ]
    assert told == ["the name helper", "the name kept"]
    assert net.configs.differences(before, before) == ([], [])
    assert net.configs.differences(before, dict(failed="KeyError: x")) == (
        ["KeyError: x"],
        [],
    )


def test_configs_of_two_checkouts_are_compared(net, tmp_path, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["net.py", "--configs", *map(str, words)])
        return net.main(net.parse_args()), capsys.readouterr().out

    monkeypatch.chdir(tmp_path)  # and back
    monkeypatch.setattr(sys, "path", [*sys.path])
    for root, rate in (("old", 2), ("same", 2), ("new", 3)):
        for path, text in (
            ("_base_/rate.py", f"half = {rate}\n"),
            ("m/toy.py", "_base_ = '../_base_/rate.py'\nmodel = dict(a=_base_.half)\n"),
            ("n/toy.py", "model = dict(a=1)\n"),
        ):
            file = tmp_path / root / "configs" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    kept = tmp_path / "old.json"
    assert run("--root", tmp_path / "old", "--out", kept) == (0, "2 lines, all well\n")
    assert run("--root", tmp_path / "same", "--compare", kept)[0] == 0
    code, said = run("--root", tmp_path / "new", "--compare", kept)
    assert code == 1
    assert "configs/m/toy.py: model.a was 2, is 3\n" in said
    assert said.endswith("DIFFERENT: configs/m/toy.py\n")
    new = ("--root", tmp_path / "new", "--only", "n", "--compare", kept)
    assert run(*new) == (0, "1 lines, all well\n")
    (tmp_path / "same/configs/n/toy.py").write_text("model = dict(")
    code, said = run("--root", tmp_path / "same", "--compare", kept)
    assert code == 1
    assert "configs/n/toy.py: SyntaxError" in said

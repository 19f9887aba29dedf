"""Reading StreetCrops: fog, labels, classes, broken files, a folder of images."""

import json

import cv2
import numpy as np
import pytest
import torch

from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.street_crops import (
    FIELDS,
    RECORD,
    StreetCrops,
    checksum,
)

LABELS = [2, 0, 8, 2, 5, 0, 2, 8, 1, 2]


def write(root, labels=LABELS, **changes):
    count = len(labels)
    dice = np.random.default_rng(3)
    arrays = {
        name: np.zeros((count, *shape), kind) for name, (kind, shape) in FIELDS.items()
    }
    arrays["images"] = dice.integers(0, 256, arrays["images"].shape, np.uint8)
    arrays["thinness"] += 204
    arrays["airlight"] += np.uint8([210, 220, 230])
    arrays["labels"][:] = labels
    arrays["scenes"] = np.arange(count, dtype=np.int32) // 3
    arrays.update(changes)
    root.mkdir(exist_ok=True)
    np.savez(root / "train.npz", **arrays)
    digits = checksum((root / "train.npz").read_bytes())
    record = {"parts": {"train": {"sha256": digits}}}
    (root / RECORD).write_text(json.dumps(record))
    return arrays


@pytest.fixture
def crops(tmp_path):
    return write(tmp_path / "crops"), str(tmp_path / "crops")


def test_samples_are_colour_images_of_things(crops):
    arrays, root = crops
    data = StreetCrops("train", root)
    assert data.targets.tolist() == [2, 0, 2, 5, 0, 2, 1, 2]
    sample = data[1]
    assert sample["inputs"].shape == (3, 32, 32)
    assert sample["targets"] == 0
    assert sample["index"] == 1
    expected = torch.from_numpy(arrays["images"][1]).permute(2, 0, 1) / 255
    assert torch.equal(sample["inputs"], expected)
    assert torch.equal(data.images[1], expected)
    assert data.scenes.tolist() == [0, 0, 1, 1, 1, 2, 2, 3]
    whole = StreetCrops("train", root, background=True)
    assert whole.targets.tolist() == LABELS
    assert whole.metainfo["classes"][8] == "background"


def test_fog_is_the_optical_model(crops):
    arrays, root = crops
    thin = 204 / 255  # transmission 0.8 at beta 0.005
    for beta, share in ((0.005, thin), (0.02, thin**4), (0.0075, thin**1.5)):
        foggy = StreetCrops("train", root, fog=beta).pixels[0, 2].numpy()
        expected = arrays["images"][0, ..., 2] * share + 230 * (1 - share)
        assert np.abs(foggy - expected).max() <= 0.51
    clear = StreetCrops("train", root, fog=0.0)
    assert np.array_equal(clear.pixels[0, 0], arrays["images"][0, ..., 0])
    # -ln(0.8) / 0.005 metres
    assert clear.distances[0].item() == pytest.approx(44.63, abs=0.01)


def test_labelled_and_the_rest_are_the_whole(crops):
    _, root = crops
    few = StreetCrops("train", root, labelled=3, label_seed=1)
    rest = StreetCrops("train", root, labelled=-3, label_seed=1)
    assert (len(few), len(rest)) == (3, 5)
    both = torch.cat([few.pixels, rest.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == 8
    drawn = {
        tuple(StreetCrops("train", root, labelled=3, label_seed=s).targets.tolist())
        for s in range(20)
    }
    assert len(drawn) > 3  # the seed decides
    even = StreetCrops(
        "train", root, classes=["car", "person"], labelled=4, balanced=True
    )
    assert sorted(even.targets.tolist()) == [0, 0, 1, 1]
    with pytest.raises(UserError, match="There are 8 crops, not 9"):
        StreetCrops("train", root, labelled=9)
    with pytest.raises(UserError, match="the rarest has 2"):
        StreetCrops("train", root, classes=["car", "person"], labelled=6, balanced=True)


def test_classes_are_renumbered_in_their_order(crops):
    _, root = crops
    some = StreetCrops("train", root, classes=["train", "person"])
    assert some.targets.tolist() == [1, 0, 1]
    assert some.metainfo["classes"] == ("train", "person")
    with pytest.raises(UserError, match="no class 'tram'"):
        StreetCrops("train", root, classes=["tram"])


def test_what_is_missing_or_changed_is_said(crops, tmp_path):
    _, root = crops
    with pytest.raises(UserError, match="part='all'"):
        StreetCrops("all", root)
    with pytest.raises(UserError, match=r"There is no .*test.npz"):
        StreetCrops("test", root)
    with pytest.raises(UserError, match="There is no folder") as missing:
        StreetCrops("train", str(tmp_path / "nowhere"))
    assert "tools/prepare.py street_crops" in missing.value.fix
    path = tmp_path / "crops/train.npz"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="its checksum differs"):
        StreetCrops("train", root)
    (tmp_path / "crops" / RECORD).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        StreetCrops("train", root)


def test_nothing_is_unpickled(tmp_path):
    root = tmp_path / "evil"
    write(root, labels=[1, 2], cities=np.array([{"a": 1}, None], object))
    with pytest.raises(UserError, match="holds no street crops"):
        StreetCrops("train", str(root))


def photographs(root, **counts):
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = np.full((20, 30, 3), (0, 40 * number, 10 * i), np.uint8)  # BGR
            cv2.imwrite(str(root / name / f"{i}.png"), image)
    return str(root)


def test_a_folder_of_images_takes_its_place(tmp_path):
    root = photographs(tmp_path / "pets", cat=4, dog=7)
    parts = {part: StreetCrops(part, root) for part in ("train", "val", "test")}
    assert parts["train"].metainfo["classes"] == ("cat", "dog")
    counts = {part: data.targets.bincount().tolist() for part, data in parts.items()}
    assert counts == {"train": [2, 4], "val": [1, 1], "test": [1, 2]}
    seen = torch.cat([data.pixels[:, :, 0, 0] for data in parts.values()])
    assert len(seen.unique(dim=0)) == 11  # in one part each, red and green as written
    assert set(seen[:, 1].tolist()) == {0, 40}
    assert set(seen[:, 0].tolist()) == {0, 10, 20, 30, 40, 50, 60}
    assert parts["val"][0]["inputs"].shape == (3, 32, 32)
    with pytest.raises(UserError, match="no fog can be laid"):
        StreetCrops("val", root, fog=0.02)


def test_own_parts_of_a_folder_are_taken_as_they_are(tmp_path):
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        photographs(tmp_path / part, cat=count, dog=count + 1)
    assert len(StreetCrops("train", str(tmp_path))) == 7
    assert len(StreetCrops("val", str(tmp_path))) == 3
    (tmp_path / "test/dog").rename(tmp_path / "test/dingo")
    with pytest.raises(UserError, match="differ in their classes: dingo, dog"):
        StreetCrops("test", str(tmp_path))


def test_a_bad_folder_of_images_is_said(tmp_path):
    with pytest.raises(UserError, match="the one class cat"):
        StreetCrops("train", photographs(tmp_path / "a", cat=3))
    root = photographs(tmp_path / "b", cat=3, dog=0)
    with pytest.raises(UserError, match=r"The class dog of .* has no images"):
        StreetCrops("train", root)
    root = photographs(tmp_path / "c", cat=3, dog=2)
    with pytest.raises(UserError, match="has 2 images, too few"):
        StreetCrops("train", root)
    root = photographs(tmp_path / "d", cat=3, dog=3)
    for number in range(3):
        (tmp_path / f"d/dog/{number}.png").write_bytes(b"" if number else b"no image")
    with pytest.raises(UserError, match=r"The image .*dog/\d.png cannot be read"):
        StreetCrops("train", root)
    (tmp_path / "e").mkdir()
    with pytest.raises(UserError, match="no class folder"):
        StreetCrops("train", str(tmp_path / "e"))

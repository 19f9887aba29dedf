"""--val: a broken entry is a sentence before anything runs, never an AP."""

import json

import numpy as np
import pytest
from PIL import Image

from pld_mmdet.adaptation.labels import find_labels
from pld_mmdet.errors import UserError
from tests.adaptation.tiny import CLASSES, write_images, write_labels


@pytest.fixture
def data(tmp_path):
    return write_images(tmp_path / "images", 10), write_labels(tmp_path / "val.json")


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_good_labels_and_where_their_images_are(data, tmp_path):
    root, val = data
    wanted = dict(val=val, val_root=root)
    assert find_labels(val, None, root, CLASSES) == wanted
    assert find_labels(val, root, tmp_path, CLASSES) == wanted
    assert find_labels(None, None, root, CLASSES) == {}
    with pytest.raises(UserError, match="were not found in"):
        find_labels(val, tmp_path, root, CLASSES)
    with pytest.raises(UserError, match="does not exist"):
        find_labels(tmp_path, None, root, CLASSES)


def test_two_folders_with_the_same_names_are_asked_about(data, tmp_path):
    root, val = data
    own = write_images(tmp_path / "labelled", 10, seed=1)  # the same names
    val = val.rename(own / "val.json")
    with pytest.raises(UserError, match="different files") as caught:
        find_labels(val, None, root, CLASSES)
    assert f"{root} and in {own}" in caught.value.what
    assert "--val-images" in caught.value.fix
    said = []
    found = find_labels(val, own, root, CLASSES, say=said.append)
    assert found["val_root"] == own
    assert said == [f"Labels:   3 images of val.json in {own}"]


def test_one_folder_by_two_ways_is_one(data, tmp_path):
    root, val = data
    (tmp_path / "link").symlink_to(root)
    val = val.rename(root / "val.json")
    for way in (root, tmp_path / "link"):
        assert find_labels(val, None, way, CLASSES)["val_root"] == root


EDITS = {
    "NaN": lambda c: c["annotations"][0].update(bbox=[0, 0, float("nan"), 1]),
    "outside of their image": lambda c: c["annotations"][0].update(bbox=[1e6, 0, 9, 9]),
    "unknown category": lambda c: c["annotations"][0].update(category_id=9),
    "belong to no image": lambda c: c["annotations"][0].update(image_id=9),
    "area that is no number": lambda c: c["annotations"][0].pop("area"),
    "'hen', is not in": lambda c: c["categories"][2].update(name="hens"),
    "every label would be shifted": lambda c: c["categories"].reverse(),
    "lists no annotation": lambda c: c.update(annotations=[]),
    "no list of categories": lambda c: c.pop("categories"),
    r"002\.png \(96 x 64 px, the file says 100 x 64\)": lambda c: c["images"][1].update(
        width=100
    ),
    r"1 of its 3 images .*gone\.png \(missing\)": lambda c: c["images"][2].update(
        file_name="gone.png"
    ),
}


@pytest.mark.parametrize("words", EDITS)
def test_a_broken_entry_is_a_sentence(data, words):
    root, val = data
    change(val, EDITS[words])
    with pytest.raises(UserError, match=words):
        find_labels(val, None, root, CLASSES)


def test_the_order_of_the_file_is_what_can_be_changed(data):
    root, val = data
    change(val, EDITS["every label would be shifted"])
    with pytest.raises(UserError) as caught:
        find_labels(val, None, root, CLASSES)
    assert "Sort the file's categories in the order of the" in caught.value.fix
    assert caught.value.fix.endswith(f"{', '.join(CLASSES)}.")
    change(val, lambda c: c["categories"].reverse())  # what it says; the ids stay
    assert find_labels(val, None, root, CLASSES)


def test_a_broken_image_of_val_is_named_before_the_run(data):
    root, val = data
    (root / "004.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"1 of its 3 .*004\.png \(truncated\)"):
        find_labels(val, None, root, CLASSES)


TURNED = r"turned\.jpg \(turned by EXIF; the boxes are those of the unturned photo\)"


@pytest.mark.parametrize(
    ("box", "name", "fault"),
    [
        ([36, 5, 30, 30], "turned.jpg", None),  # ends at 66 of 64 + 2
        ([37, 5, 30, 30], "turned.jpg", TURNED),
        ([3, 64, 30, 34], "turned.jpg", None),  # ends at 98 of 96 + 2
        ([3, 64, 30, 35], "turned.jpg", TURNED),
        ([-3, 5, 30, 30], "turned.jpg", TURNED),
        ([37, 5, 30, 30], "plain.png", r"64 x 96 px, the file says 96 x 64"),
    ],
)
def test_a_turned_photo_needs_boxes_of_what_one_sees(data, box, name, fault):
    """The camera's 96 x 64 px are read as 64 x 96; the file states the camera's."""
    root, val = data
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(
        root / "turned.jpg", exif=exif
    )
    Image.fromarray(np.zeros((96, 64, 3), np.uint8)).save(root / "plain.png")
    change(val, lambda c: c["images"][1].update(file_name=name))
    change(val, lambda c: c["annotations"][1].update(bbox=box))
    if fault is None:
        assert find_labels(val, None, root, CLASSES)
        return
    with pytest.raises(UserError, match=fault):
        find_labels(val, None, root, CLASSES)

"""A user's own bags: by hand, from folders and tables, and every sentence."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from pld_mmdet.errors import UserError
from pld_mmdet.weak_supervision.data.given_bags import GivenBags

DIGITS = dict(type="pld_mmdet.Digits", part="val")


def table(tmp_path, text, name="bags.csv"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 4, 3), value, np.uint8))


KNOWN = "bag,instance,label\nb,5,1\na,7,0\nb,2,0\nb,9,1\na,3,0\n"


def test_instances_by_hand(tmp_path):
    """Bag b has samples 5, 2, 9 (two ones), a has 7 and 3 (none)."""
    data = GivenBags(table(tmp_path, KNOWN), dataset=DIGITS)
    assert data.names == ["b", "a"]
    assert len(data) == 5
    assert data.targets.tolist() == [1, 0, 1, 0, 0]
    assert data.bag_labels.tolist() == [1, 0]
    assert data.proportions.tolist() == pytest.approx([2 / 3, 0])
    sample = data[2]
    assert torch.equal(sample["inputs"], data.dataset[9]["inputs"])
    assert [int(sample[k]) for k in ("targets", "bag_label", "bag", "index")] == [
        1, 1, 0, 2
    ]  # fmt: skip
    last = data[4]
    assert [int(last[k]) for k in ("bag_label", "bag", "index")] == [0, 1, 4]
    only = GivenBags(table(tmp_path, KNOWN), dataset=DIGITS, positive_only=True)
    assert [int(only[i]["index"]) for i in range(len(only))] == [0, 1, 2]


def test_whole_bags_are_filled_up(tmp_path):
    data = GivenBags(table(tmp_path, KNOWN), dataset=DIGITS, whole=True)
    batch = default_collate([data[0], data[1]])
    assert batch["inputs"].shape == (2, 3, 1, 8, 8)
    assert batch["index"].tolist() == [[0, 1, 2], [3, 4, -1]]
    assert batch["targets"].tolist() == [[1, 0, 1], [0, 0, -1]]
    assert batch["sums"].tolist() == [2, 0]
    assert not batch["inputs"][1, 2].any()
    assert torch.equal(batch["inputs"][1, 1], data.dataset[3]["inputs"])


def test_folders_and_what_is_not_known(tmp_path):
    """Three pictures in `scan 1`, one in `scan 2`; a table with one line a bag."""
    for number, name in enumerate(("x.png", "y.png", "z.jpg")):
        picture(tmp_path / "data/scan 1" / name, 50 * number)
    picture(tmp_path / "data/scan 2/x.png", 255)
    file = table(tmp_path, 'bag,bag_label\n"scan 1",1\nscan 2,0\n')
    data = GivenBags(file, str(tmp_path / "data"), size=4)
    assert data.targets.tolist() == [-1, -1, -1, 0]
    assert data[1]["inputs"].shape == (3, 4, 4)
    assert data[1]["inputs"][0, 2, 2].item() == pytest.approx(50 / 255, abs=1e-3)
    whole = GivenBags(file, str(tmp_path / "data"), size=4, whole=True)
    assert whole[0]["sums"].isnan()
    assert whole[1]["sums"] == 0
    file = table(tmp_path, "bag\tproportion\nscan 1\t.667\nscan 2\t1\n", "b.tsv")
    whole = GivenBags(file, str(tmp_path / "data"), size=4, whole=True)
    assert [float(whole[i]["sums"]) for i in (0, 1)] == [2, 1]
    assert whole.bag_labels.tolist() == [1, 1]


def test_instances_as_paths(tmp_path):
    picture(tmp_path / "p/a.png", 10)
    picture(tmp_path / "p/b.png", 20)
    line = '{"bag": 1, "instance": "p/b.png", "proportion": 1}'
    file = table(tmp_path, line, "b.jsonl")
    data = GivenBags(file, str(tmp_path), size=4)
    assert data[0]["inputs"].mean().item() == pytest.approx(20 / 255, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("bag,instance,label\n", "is empty"),
        ("bag,instance,label\na,1\n", "2 columns, the first line names 3"),
        ("instance,label\n1,0\n", "Line 2 of .* has no bag"),
        ("bag,instance,label\na,,0\n", "Line 2 of .* has no instance"),
        ("bag,instance,label\na,1,2\n", "label='2' is no label"),
        ("bag,instance,label\na,1,yes\n", "label='yes' is no label"),
        ("bag,instance,label\na,999,1\n", "instance='999' is no sample"),
        ("bag,instance,label\na,-1,1\n", "instance='-1' is no sample"),
        ("bag,instance,label\na,1.5,1\n", "instance='1.5' is no sample"),
        ("bag,instance,label\na,1,1\nb,1,0\n", "1 is in the bags 'a' and 'b'"),
        ("bag,instance,label\na,1,1\na,1,0\n", "1 is in the bags 'a' and 'a'"),
        ("bag,instance,label\na,1,\n", "nothing is known of the bag 'a'"),
        ("bag,instance\na,1\n", "nothing is known of the bag 'a'"),
        ("bag,instance,proportion\na,1,1.2\n", "proportion='1.2' is no share"),
        ("bag,instance,proportion\na,1,nan\n", "proportion='nan' is no share"),
        ("bag,instance,proportion\na,1,half\n", "proportion='half' is no share"),
        ("bag,instance,proportion\na,1,.3\na,2,.3\n", "0.3, and the bag has 2"),
        ("bag,instance,proportion\na,1,.5\na,2,1\n", "proportion=1 of .* had 0.5"),
        (
            "bag,instance,label,proportion\na,1,1,1\na,2,0,1\n",
            "proportion=1, and 1 of 2 labels are 1",
        ),
        ("bag,instance,label,bag_label\na,1,1,0\n", "bag_label=0 of 'a' contradicts"),
        ("bag,instance,label,bag_label\na,1,0,1\n", "bag_label=1 of 'a' contradicts"),
        ("bag,instance,proportion,bag_label\na,1,0,1\n", "bag_label=1 of 'a' contr"),
        ("bag,bag_label\na,1\na,1\n", "'a' stands twice"),
        ("bag,bag_label\na,1\n", "neither instances nor a folder"),
        ('bag,instance,label\na,"1,0\n', "nothing|columns|no table"),
    ],
)
def test_every_fault_is_a_sentence(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as caught:
        GivenBags(table(tmp_path, text), dataset=DIGITS)
    assert "bags.csv" in str(caught.value)


def test_other_faults(tmp_path):
    with pytest.raises(UserError, match="data_root=None and dataset=None"):
        GivenBags(table(tmp_path, KNOWN))
    with pytest.raises(UserError, match="does not exist"):
        GivenBags(str(tmp_path / "none.csv"), dataset=DIGITS)
    zeros = table(tmp_path, "bag,instance,label\na,1,0\n")
    with pytest.raises(UserError, match="no positive bag"):
        GivenBags(zeros, dataset=DIGITS, positive_only=True)
    file = table(tmp_path, "bag,instance,label\na,none.png,0\n")
    with pytest.raises(UserError, match=r"there is no image .*none\.png"):
        GivenBags(file, str(tmp_path))
    (tmp_path / "a").mkdir()
    file = table(tmp_path, "bag,bag_label\na,0\n")
    with pytest.raises(UserError, match="has no images"):
        GivenBags(file, str(tmp_path))

"""What may take the source's place: shares by hand, and what labels decide."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData

from pld_mmdet.adaptation.candidates import Candidate, Candidates
from pld_mmdet.adaptation.evidence import Evidence, compare
from pld_mmdet.adaptation.labelled import Labelled


def row(*found):
    """An image: (left edge, score, label) of boxes of 10 px."""
    places = [[x, 0.0, x + 10.0, 10.0] for x, _, _ in found]
    return InstanceData(
        bboxes=torch.tensor(places).reshape(-1, 4),
        scores=torch.tensor([score for _, score, _ in found]),
        labels=torch.tensor([label for _, _, label in found], dtype=torch.long),
    )


SOURCE = [
    row((0, 0.9, 0), (20, 0.8, 1), (40, 0.71, 1), (60, 0.1, 0)),
    row((0, 0.9, 1), (80, 0.7, 2)),  # 0.7 itself is not sure
]
OTHER = [
    # found at half the threshold; another class; moved by 4 of 10 (IoU 6 / 14); backed
    row((0, 0.36, 0), (20, 0.9, 2), (44, 0.9, 1), (61, 0.8, 0)),
    row((0, 0.34, 1), (80, 0.9, 2), (82, 0.8, 2)),
]


def test_shares_by_hand():
    seen = compare(SOURCE, OTHER, 0.7)
    assert seen.sure == 4
    assert seen.kept == pytest.approx(1 / 4)
    assert seen.backed == pytest.approx(3 / 5)  # at 61, 80 and 82
    assert seen.growth == pytest.approx(5 / 4)
    back = compare(OTHER, SOURCE, 0.7)
    assert (back.kept, back.backed) == (pytest.approx(2 / 5), pytest.approx(2 / 4))


def test_a_detector_keeps_and_backs_itself():
    seen = compare(SOURCE, SOURCE, 0.7)
    assert (seen.kept, seen.backed, seen.growth, seen.vanished) == (1.0, 1.0, 1.0, ())


def test_nothing_found_shows_nothing():
    none = compare([row()], [row()], 0.7)
    assert (none.sure, none.growth) == (0, 0.0)
    assert none.merit == -1.0
    made_up = compare([row()], [row((0, 0.9, 0))], 0.7)
    assert (made_up.backed, made_up.growth) == (0.0, 1.0)


@pytest.mark.parametrize(("count", "vanished"), [(2, ()), (3, (1,))])
def test_a_class_vanishes_from_three_boxes_on(count, vanished):
    before = [row((0, 0.9, 0), *[(20.0 * n, 0.8, 1) for n in range(1, count + 1)])]
    after = [row((0, 0.9, 0), *[(20.0 * n, 0.6, 1) for n in range(1, count + 1)])]
    seen = compare(before, after, 0.7)
    assert seen.vanished == vanished
    assert seen.kept == 1.0  # still found, and never sure


@pytest.mark.parametrize(
    ("changes", "merit"),
    [
        ({}, 0.05),
        (dict(kept=0.99), 0.08),
        (dict(kept=0.79), -0.01),
        (dict(backed=0.7), -0.1),
        (dict(sure=9), -1.0),
        (dict(vanished=(2,)), -1.0),
    ],
)
def test_merit_is_the_least_room(changes, merit):
    figures = dict(kept=0.85, backed=0.88, growth=1.3, vanished=(), sure=10) | changes
    assert Evidence(**figures).merit == pytest.approx(merit)


def candidates(labelled=None):
    made = Candidates.__new__(Candidates)
    made._labelled, made._hits = labelled, {}
    made.source = Candidate("source", 0, "s.pth")
    made.all = [made.source]
    return made


def add(to, name, kept=0.9, ap50=None):
    one = Candidate(name, 1, name, Evidence(kept, 0.95, 1.0, (), 20), ap50)
    to.all.append(one)
    return one


def test_the_safest_has_the_most_room_or_is_the_source():
    group = candidates()
    assert group.safest() is group.source
    add(group, "harms", 0.7)
    assert group.safest() is group.source
    small, large = add(group, "small", 0.82), add(group, "large", 0.9)
    assert group.safest() is large
    assert group.safest([small]) is small


def test_labels_decide_by_the_lower_end_of_the_gain():
    ends = {"lucky": (-0.01, 0.2), "sound": (0.02, 0.05)}
    asked = []

    def gain(before, after, level):
        asked.append((before, level))
        return ends[after]

    group = candidates(SimpleNamespace(gain=gain))
    group.source.ap50 = 0.3
    group._hits[id(group.source)] = "source"
    sound = add(group, "sound", kept=0.1, ap50=0.33)  # labels overrule the shares
    group._hits[id(sound)] = "sound"
    assert group.safest() is sound
    assert asked[-1] == ("source", 0.8)
    lucky = add(group, "lucky", ap50=0.4)
    group._hits[id(lucky)] = "lucky"
    assert group.merit(lucky) == -0.01
    assert group.safest() is group.source  # the best one shows no gain


def test_gain_and_its_interval(tmp_path):
    images = [dict(id=n, file_name=f"{n}.png", width=99, height=40) for n in range(8)]
    truth = [
        dict(id=n, image_id=n, category_id=7, bbox=[0, 0, 10, 10], area=100, iscrowd=0)
        for n in range(8)
    ]
    content = dict(
        images=images, annotations=truth, categories=[dict(id=7, name="cat")]
    )
    file = tmp_path / "few.json"
    file.write_text(json.dumps(content))
    few = Labelled(file, tmp_path, ["cat"])
    hit, miss = row((0, 0.9, 0)), row((50, 0.9, 0))
    half, all_of_them = [hit, miss] * 4, [hit] * 8
    assert few.ap50(all_of_them) == pytest.approx(1.0)
    assert few.ap50([row()] * 8) == 0.0
    assert few.gain(half, half) == (0.0, 0.0)
    low, high = few.gain(half, all_of_them)
    assert 0 < low < high
    inner = few.gain(half, all_of_them, 0.5)
    assert low <= inner[0] < inner[1] <= high
    back = few.gain(all_of_them, half)
    assert back == pytest.approx((-high, -low))

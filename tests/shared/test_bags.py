"""Bags of scenes and teachers with reasons to err."""

import pytest
import torch
from torch.utils.data import Dataset

from pld_mmdet.errors import UserError
from pld_mmdet.shared.data.bags import Bags
from pld_mmdet.shared.data.mistakes import SystematicMistakes


class Seven(Dataset):
    """Three scenes in mixed order; images that are their own number."""

    metainfo = {"classes": ("car", "bus", "train")}
    scenes = torch.tensor([4, 9, 4, 5, 9, 4, 4])
    targets = torch.tensor([0, 1, 0, 2, 0, 2, 1])
    distances = torch.tensor([10.0, 30, 50, 20, 40, 60, 5])

    def __len__(self):
        return 7

    def __getitem__(self, index):
        image = torch.full((3, 2, 2), float(index + 1))
        return {"inputs": image, "targets": self.targets[index], "index": index}


def test_a_bag_holds_the_crops_of_its_scene():
    bags = Bags(Seven(), positive="bus")
    assert len(bags) == 3
    assert bags.size == 4
    assert bags.bag_of.tolist() == [0, 2, 0, 1, 2, 0, 0]
    first, _, last = (bags[i] for i in range(3))
    assert first["inputs"][:, 0, 0, 0].tolist() == [1, 3, 6, 7]
    assert first["instances"].tolist() == [0, 0, 2, 1]
    assert first["proportions"].tolist() == [0.5, 0.25, 0.25]
    assert last["inputs"][:, 1, 1, 1].tolist() == [2, 5, 0, 0]
    assert last["mask"].tolist() == [True, True, False, False]
    assert last["instances"].tolist() == [1, 0, -1, -1]
    assert [int(bags[i]["targets"]) for i in range(3)] == [1, 0, 1]
    assert bags.proportions.sum(1).tolist() == [1, 1, 1]


def test_a_cut_bag_knows_only_what_is_left():
    bags = Bags(Seven(), size=3, positive="bus")
    assert bags[0]["inputs"].shape == (3, 3, 2, 2)
    assert bags[0]["proportions"].tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    assert bags.targets.tolist() == [0, 0, 1]  # the bus was the fourth


def test_what_has_no_scenes_makes_no_bags():
    alone = Seven()
    alone.scenes = torch.arange(7)
    with pytest.raises(UserError, match="seen together"):
        Bags(alone)
    with pytest.raises(UserError, match="no class 'tram'"):
        Bags(Seven(), positive="tram")


def test_the_farthest_of_a_class_are_taken_for_another():
    data = SystematicMistakes(Seven(), {"car": "bus", "train": "car"}, share=0.4)
    # cars 0, 2, 4 at 10, 50, 40 m: one of three; trains 3, 5 at 20, 60 m: one of two
    assert data.targets.tolist() == [0, 1, 1, 2, 0, 0, 1]
    assert data.clean_targets.tolist() == Seven.targets.tolist()
    assert data[2]["targets"] == 1
    assert data[2]["inputs"][0, 0, 0] == 3
    none = SystematicMistakes(Seven(), {"car": "bus"}, share=0.0)
    assert torch.equal(none.targets, Seven.targets)


def test_mistakes_without_a_reason_follow_their_seed():
    confusions = {"car": "bus"}
    drawn = {
        tuple(SystematicMistakes(Seven(), confusions, 0.4, None, s).targets.tolist())
        for s in range(40)
    }
    assert len(drawn) == 3  # each of the three cars
    with pytest.raises(UserError, match="no class 'bicycle'"):
        SystematicMistakes(Seven())
    with pytest.raises(UserError, match="does not say sizes"):
        SystematicMistakes(Seven(), {"car": "bus"}, by="sizes")
    with pytest.raises(UserError, match="is no share"):
        SystematicMistakes(Seven(), {"car": "bus"}, share=40)

"""Boxes that the source was sure of: what is kept, what alarms, and resuming."""

import json
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS
from mmengine.structures import InstanceData

from pld_mmdet.detection.hooks import CollapseGuardHook, decline
from pld_mmdet.detection.hooks.decline import SourceBoxes, kept_share
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.engine.state.newest import find_latest
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, give_confidence, on_processes
from tests.detection.hooks.test_collapse_guard import (
    SOUND,
    ScriptedTeacher,
    left_behind,
)
from tests.engine.processes import forked
from tests.engine.state.test_resume import differences
from tests.engine.toy import write_config
from tests.helpers import tiny_faster_rcnn


def boxes(*rows, labels=None, scores=None):
    table = torch.tensor(rows, dtype=torch.float).reshape(-1, 4)
    found = InstanceData(bboxes=table, labels=torch.tensor(labels or [0] * len(table)))
    if scores is not None:
        found.scores = torch.tensor(scores)
    return found


def test_kept_boxes_by_hand():
    before = [
        boxes([0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], labels=[1, 2, 1]),
        boxes([0, 0, 10, 10]),
        boxes(),
    ]
    now = [
        boxes([0, 0, 10, 8], [20, 0, 30, 10], [44, 0, 54, 10], labels=[1, 1, 1]),
        boxes(),
        boxes([5, 5, 9, 9]),
    ]
    # kept; another class; IoU 6/14; lost with its image; a new box does not count
    assert kept_share(before, now) == (1, 4)
    assert kept_share(before, now, min_iou=0.4) == (2, 4)
    assert kept_share(before, before) == (4, 4)
    assert kept_share([], []) == (0, 0)
    # two on one object are one; half of an object is enough
    twice = [boxes([0, 0, 10, 5], [0, 0, 10, 9])]
    assert kept_share([boxes([0, 0, 10, 10])], twice) == (1, 1)
    assert kept_share([boxes([0, 0, 10, 10])], [twice[0][:1]]) == (1, 1)


class Answers:
    """A teacher whose boxes stand in a list, one entry an image."""

    def __init__(self, answers, hpl_threshold=0.7):
        self.answers, self.hpl_threshold = answers, hpl_threshold

    def teacher_boxes(self, sample):
        return self.answers[sample["inputs"]]


IMAGES = [dict(inputs=n) for n in range(3)]


def row(*scores, shift=0.0, labels=None):
    """Boxes of 10 px side by side."""
    starts = [20.0 * n + shift for n in range(len(scores))]
    places = [[x, 0, x + 10, 10] for x in starts]
    return boxes(*places, scores=list(scores), labels=labels)


def sure(count, shift=0.0):
    return row(*[0.9] * count, shift=shift)


def test_sure_boxes_are_remembered_and_found_again_from_half_the_threshold_on():
    """Of 9 + 5 boxes, 2 too unsure to be remembered; then 8 of 12 are left."""
    first = row(*[0.9] * 7, 0.7, 0.69)  # 0.7 itself is not above
    probe = SourceBoxes(images=3)
    probe.label(Answers([first, row(*[0.71] * 5), row()]), IMAGES)
    assert [len(b) for b in probe.boxes] == [7, 5, 0]
    now = [row(*[0.36] * 6), row(0.9, 0.4, 0.35, 0.3, 0.1), sure(4)]
    assert probe.kept(Answers(now), IMAGES) == (8, 12)
    # IoU 7/13 is enough, 6/14 is not
    moved = [sure(9, shift=3.0), sure(5, shift=4.0), row()]
    assert probe.kept(Answers(moved), IMAGES) == (7, 12)
    probe.min_iou = 0.4
    assert probe.kept(Answers(moved), IMAGES) == (12, 12)


def test_images_are_spread_evenly_read_once_and_leave_no_trace_in_randomness():
    class Drawing(list):
        """Each image is augmented at random, as in training."""

        def __getitem__(self, n):
            asked.append(n)
            random.random(), np.random.rand(), torch.rand(1)
            return super().__getitem__(n)

    asked, data = [], Drawing(dict(inputs=n) for n in range(40))
    random.seed(3), np.random.seed(4), torch.manual_seed(5)
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(3), np.random.seed(4), torch.manual_seed(5)
    probe, model = SourceBoxes(), Answers([sure(1)] * 40)
    probe.label(model, data)
    assert probe.kept(model, data) == (16, 16)
    assert asked == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == drawn
    few = SourceBoxes()  # asks for 16
    few.label(model, data[:3])
    assert few.total == 3


def test_processes_look_at_their_shares_and_agree(monkeypatch):
    """Five images on two processes; the boxes of image 3 are lost, two of image 0."""
    source = Answers([sure(n) for n in (5, 4, 3, 2, 1)])
    later = Answers([sure(3), sure(4), sure(3), row(), sure(1)])
    data, asked = [dict(inputs=n) for n in range(5)], {0: [], 1: []}

    def look(rank):
        class Asked(list):
            def __getitem__(self, n):
                asked[rank].append(n)
                return super().__getitem__(n)

        probe = SourceBoxes(images=5)
        probe.label(source, Asked(data))
        return [len(b) for b in probe.boxes], probe.kept(later, Asked(data))

    both = on_processes(monkeypatch, decline, 2, look)
    assert both == [([5, 4, 3, 2, 1], (11, 15))] * 2
    assert asked == {0: [0, 2, 4], 1: [1, 3]}


def test_mmdet_s_name_of_the_weak_view():
    views = dict(unsup_teacher=0, unsup_student=1, sup=None)
    probe = SourceBoxes(images=1)
    probe.label(Answers([sure(11), row()]), [dict(inputs=views, data_samples=views)])
    assert probe.total == 11


def test_alarm_below_the_least_share_and_after_a_fall():
    probe = SourceBoxes()  # 70 %, and 10 points
    probe.boxes = [sure(17), sure(23)]
    assert probe.judge(28, best=0.8) == []  # exactly 70 %, exactly 10 points
    assert probe.judge(32, best=0.0) == []  # the first window
    (said,) = probe.judge(27, best=0.7)
    assert said == (
        "the teacher finds 27 of 40 boxes again that the source was sure of (68 %; at "
        "least 70 % are expected)"
    )
    (said,) = probe.judge(33, best=0.95)
    assert said.endswith("sure of (82 %; it was 95 % at best)")
    (said,) = probe.judge(20, best=0.95)
    assert said.endswith("(50 %; at least 70 % are expected, it was 95 % at best)")


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_sure_boxes_cannot_judge_and_say_so(count, monkeypatch):
    said = []
    place = "pld_mmdet.detection.hooks.decline.print_log"
    monkeypatch.setattr(place, lambda text, logger: said.append(text))
    model = Answers([sure(count), row(*[0.5] * 4), row()])
    probe = SourceBoxes(images=3)
    probe.label(model, IMAGES)
    assert probe.kept(model, IMAGES) is None
    (text,) = said
    assert f"the source has {count} confident boxes on 3 images; 10 are needed" in text
    model.answers[0] = sure(10)
    probe.label(model, IMAGES)
    assert probe.kept(model, IMAGES) == (10, 10)
    assert len(said) == 1


@pytest.mark.parametrize(
    "wrong",
    [dict(images=0), dict(min_kept=70), dict(max_decline=-0.1), dict(min_iou=1.5)],
)
def test_wrong_arguments_are_a_sentence(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"cannot work with {name}={wrong[name]}"):
        CollapseGuardHook(probe=wrong)
    off = SourceBoxes(images=1, min_kept=0.0, max_decline=1.0)
    off.boxes = [sure(12)]
    assert off.judge(0, best=1.0) == []


def samples(sizes):
    """As a loader's data set gives them: two views of an image, sizes mixed."""
    made = []
    for n, size in enumerate(sizes):
        batch = batch_of(1, size=size, seed=n)
        made.append(
            {
                key: {view: views[view][0] for view in views}
                for key, views in batch.items()
            }
        )
    return made


def test_images_of_mixed_sizes_are_looked_at_one_by_one():
    """With mmdet's own networks; an image without a weak view counts for nothing."""
    torch.manual_seed(0)
    model = MeanTeacherSFOD(tiny_faster_rcnn(), hpl_threshold=0.5)
    model.init_weights()
    give_confidence(model)
    data = samples([64, 96, 64, 128])
    data[2]["inputs"]["weak"] = None
    probe = SourceBoxes(images=4)
    probe.label(model, data)
    sizes = [len(b) for b in probe.boxes]
    assert [n > 0 for n in sizes] == [True, True, False, True]
    assert probe.boxes[3].bboxes.max() > 96  # pixels of the larger image
    alone = model.teacher_boxes({k: v["weak"] for k, v in data[3].items()})
    assert torch.equal(probe.boxes[3].bboxes, alone[alone.scores > 0.5].bboxes)
    assert probe.kept(model, data) == (sum(sizes), sum(sizes))
    with torch.no_grad():
        model.teacher.roi_head.bbox_head.fc_cls.bias[-1] += 4.0
    found, total = probe.kept(model, data)
    assert found < 0.9 * total


def test_the_state_is_plain_and_comes_back():
    probe = SourceBoxes(images=3)
    model = Answers([sure(12), sure(3), row()])
    assert probe.state() is None
    probe.label(model, IMAGES)
    later = SourceBoxes(images=2)  # the run was begun with three
    later.load(None)  # of a checkpoint without it
    assert later.boxes is None
    assert not later.can_judge
    later.load(probe.state())
    assert later.kept(model, IMAGES) == (15, 15)
    model.answers[1] = row(0.36, 0.34, 0.9)  # from half of 0.7 on
    assert later.kept(model, IMAGES) == (14, 15)


@MODELS.register_module(force=True)
class ForgettingTeacher(ScriptedTeacher):
    """Finds 16 boxes on each of three images, and in the end fewer and fewer.

    Args:
        kept: (steps, boxes an image) rows.
    """

    hpl_threshold = 0.7

    def __init__(self, kept, **more):
        super().__init__(**more)
        self.kept = [row[1] for row in kept for _ in range(row[0])]

    def teacher_boxes(self, sample):
        # before the first step the hub tells none, and the source finds all
        step = min(self.hub.get_info("iter", 0), len(self.kept) - 1)
        return sure(self.kept[step])


def forgetting(folder, kept, iters, kill=None, resume=False, **guard):
    cfg = Config.fromfile(str(write_config(folder)))
    cfg.model = dict(type="ForgettingTeacher", kept=kept, script=[(99, *SOUND)])
    cfg.work_dir = str(folder / "run")
    cfg.experiment_name = folder.name
    cfg.param_scheduler = []
    cfg.train_cfg.update(max_iters=iters, val_interval=5)
    cfg.default_hooks.checkpoint.update(
        interval=3, max_keep_ckpts=2, save_best="accuracy", rule="greater"
    )
    guard = dict(interval=4, probe=dict(images=3), max_distance=9.0) | guard
    cfg.custom_hooks = [
        dict(type="pld_mmdet.IterationSeedHook"),
        dict(type="pld_mmdet.CollapseGuardHook", **guard),
        dict(type="CurveHook"),
    ]
    if kill is not None:
        cfg.custom_hooks.append(
            dict(type="KillHook", iteration=kill[0], moment=kill[1])
        )
    latest = find_latest(cfg.work_dir) if resume else None
    if latest is not None:
        cfg.resume, cfg.load_from = True, latest
    RUNNERS.build(cfg).train()
    return json.loads((folder / "run" / "guard.json").read_text())


def test_a_slow_decline_stops_the_run_though_nothing_else_is_seen(tmp_path):
    slow = [(8, 16), (8, 15), (80, 14)]  # 1, 0.94, 0.88: the third lies 0.125 below
    written = forgetting(tmp_path, slow, iters=32, action="stop")
    kept = [w["kept"] for w in written["windows"]]
    assert kept == [1.0, 1.0, 0.9375, 0.9375, 0.875, 0.875]
    assert written["state"] == "stopped"
    first, last = written["events"]
    assert first["what"] == (
        "the teacher finds 42 of 48 boxes again that the source was sure of (88 %; it "
        "was 100 % at best)"
    )
    assert last["weights_of"] == 12  # what the last sound window began with


def test_a_probe_that_does_not_act_says_each_fall_once(tmp_path):
    """Falls at windows 2 and 3, is back at 4, falls again at 5: two sentences."""
    falls = [(5, 16), (8, 13), (4, 15), (80, 11)]
    probe = dict(images=3, acts=False)
    written = forgetting(tmp_path, falls, iters=24, action="stop", probe=probe)
    kept = [w["kept"] for w in written["windows"]]
    assert kept == [1.0, 0.8125, 0.8125, 0.9375, 0.6875, 0.6875]
    assert [e["iter"] for e in written["events"]] == [8, 20]
    assert "finds 39 of 48 boxes again" in written["events"][0]["what"]
    assert [len(w["lost"]) for w in written["windows"]] == [0, 1, 1, 0, 1, 1]
    assert written["state"] == "sound"


def test_a_share_that_comes_back_and_a_probe_that_is_off(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    dip = [(8, 16), (4, 13), (80, 15)]
    written = forgetting(tmp_path / "a", dip, iters=20, action="stop")
    assert written["state"] == "sound"
    assert len(written["events"]) == 1
    off = forgetting(tmp_path / "b", dip, iters=20, action="stop", probe=None)
    assert off["events"] == []
    assert not any("kept" in window for window in off["windows"])
    ours, theirs = (
        torch.load(tmp_path / name / "run" / "iter_20.pth", weights_only=True)
        for name in "ab"
    )
    # looking changes no weight
    assert differences(ours["state_dict"], theirs["state_dict"]) == []
    assert differences(ours["optimizer"], theirs["optimizer"]) == []


def test_kills_change_nothing_of_a_run_that_declines(tmp_path):
    """Also what the source was sure of survives: the hub of a resumed run is older."""
    slow = [(10, 16), (7, 15), (80, 13)]
    guard = dict(action="rollback", max_rollbacks=1, iters=36)
    (tmp_path / "whole").mkdir()
    assert forked(lambda: forgetting(tmp_path / "whole", slow, **guard)) == 0
    whole = left_behind(tmp_path / "whole")
    assert whole["guard"]["state"] == "stopped"
    assert len(whole["last"]["pld_collapse_guard"]["probe"]["boxes"]) == 3
    rng = random.Random(1)
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill = rng.randrange(4, 32), rng.choice(("before_train_iter", "after_val"))
        forked(lambda: forgetting(folder, slow, kill=kill, **guard))  # noqa: B023
        again = forked(lambda: forgetting(folder, slow, resume=True, **guard))  # noqa: B023
        assert again == 0
        assert differences(whole, left_behind(folder)) == [], kill


def test_a_model_that_cannot_be_asked_is_a_sentence(tmp_path):
    cfg = Config.fromfile(str(write_config(tmp_path)))
    cfg.model = dict(type="ScriptedTeacher", script=[(99, *SOUND)])
    cfg.work_dir = str(tmp_path / "run")
    cfg.custom_hooks = [dict(type="pld_mmdet.CollapseGuardHook", probe=dict())]
    with pytest.raises(UserError, match="ScriptedTeacher has no teacher_boxes"):
        RUNNERS.build(cfg).train()

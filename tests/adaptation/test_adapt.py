"""One command: adapt, guard, score, export, report; and what a user can get wrong."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config

import pld_mmdet
from pld_mmdet.adaptation.detector import read_config, read_detector
from pld_mmdet.adaptation.recipe import choose_recipe
from pld_mmdet.adaptation.words import say_floor
from pld_mmdet.detection.loops.scored_val import read_history
from pld_mmdet.engine.state.outfolder import claimed
from pld_mmdet.errors import UserError
from tests.adaptation.test_folder import strange_images
from tests.adaptation.tiny import (
    CLASSES,
    load_strictly,
    write_detector,
    write_images,
    write_labels,
)
from tests.detection.helpers import tiny_cascade
from tests.engine.processes import Tool, forked

SHORT = dict(workers=0, iterations=4, score_images=2, evaluations=2, select="last")


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's folder: detector, images, labels of a few of them."""
    root = tmp_path_factory.mktemp("user")
    config, checkpoint = write_detector(root / "detector")
    images = write_images(root / "images", 10)
    return config, checkpoint, images, write_labels(root / "labels.json")


@pytest.fixture(scope="module")
def adapted(user, tmp_path_factory):
    """LPLD with labels to measure with, once for several tests."""
    config, checkpoint, images, labels = user
    said = []
    out = tmp_path_factory.mktemp("out") / "lpld"
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        images,
        "lpld",
        val=labels,
        out=out,
        say=said.append,
        threshold=0.2,
        **SHORT,
    )
    return result, "\n".join(said), out


def test_result_loads_strictly_in_the_stock_detector_with_class_names(adapted, user):
    result, _, _ = adapted
    network, content = load_strictly(user[0], result.checkpoint)
    assert tuple(content["meta"]["dataset_meta"]["classes"]) == CLASSES
    source = torch.load(user[1], weights_only=True)["state_dict"]
    moved = [
        k for k, v in network.state_dict().items() if not torch.equal(v, source[k])
    ]
    assert "roi_head.bbox_head.fc_cls.weight" in moved


def test_every_step_is_said_in_words(adapted):
    _, said, out = adapted
    assert "FasterRCNN (two-stage), 3 classes (cat, dog, hen), 20 batch-norm" in said
    assert "10 images in" in said
    assert (
        "Rule: 10 images, batch 2 x 1 process -> 4 iterations (0.8 passes), SGD lr "
        "0.00125 (warm-up of 1, then a cosine to 0), teacher keeps 0.9000 an iteration "
        "(66 % of the source at the end), boxes above 0.2, AdaBN on 10 images is a "
        "candidate." in said
    )
    assert "AP50:" in said
    assert "agreement of weak and strong view" in said
    assert str(out / "adapted.pth") in said


def test_evaluations_begin_with_the_source_and_never_choose_by_labels(adapted):
    result, _, out = adapted
    history = read_history(out)
    assert [row["iter"] for row in history] == [0, 2, 4]
    for row in history:
        assert "coco/AP50" in row
        assert "label_free/agreement" in row
        assert "label_free/das" in row
    assert result.outcome.chosen_iter == 4
    assert result.outcome.select == "last"


def test_report_is_one_file_with_the_numbers(adapted):
    result, _, out = adapted
    page = result.report.read_text()
    assert "AP50 on your labelled images" in page
    assert "Pseudo labels of each class" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    written = json.loads((out / "report.json").read_text())
    assert written["outcome"]["history"][0]["iter"] == 0
    assert written["recipe"]["iterations"] == 4


def test_train_tool_repeats_the_run_bit_for_bit(adapted, tmp_path):
    result, _, out = adapted
    again = tmp_path / "again"
    Tool("train", result.config, "--work-dir", again, log=tmp_path / "log").finish()
    first = torch.load(out / "iter_4.pth", weights_only=True)["state_dict"]
    theirs = torch.load(again / "iter_4.pth", weights_only=True)
    assert all(torch.equal(v, theirs["state_dict"][k]) for k, v in first.items())


def test_second_run_into_the_same_folder_is_refused_and_resume_goes_on(adapted, user):
    result, _, out = adapted
    config, checkpoint, images, labels = user
    before = result.checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"already holds a run \(finished\)"):
        pld_mmdet.adapt(config, checkpoint, images, "lpld", out=out, **SHORT)
    assert result.checkpoint.read_bytes() == before
    same = dict(val=labels, threshold=0.2, out=out, resume=True, say=quiet, **SHORT)
    again = pld_mmdet.adapt(config, checkpoint, images, "lpld", **same)
    assert again.outcome.chosen_iter == 4  # nothing was left to do


def quiet(line):
    """Receive the lines for the user."""


def test_resume_with_other_options_is_refused_with_all_differences(
    adapted, user, tmp_path
):
    """And another detector; the report that was there stays as it was."""
    _, _, out = adapted
    config, checkpoint, images, labels = user
    same = dict(val=labels, threshold=0.2, out=out, resume=True, say=quiet, **SHORT)
    report = (out / "report.json").read_bytes()
    with pytest.raises(UserError) as refused:
        pld_mmdet.adapt(
            config, checkpoint, images, "mean_teacher", lr=0.013, seed=3, **same
        )
    assert "--method=mean_teacher (the run has lpld)" in refused.value.what
    assert "--lr=0.013 (the run has nothing)" in refused.value.what
    assert "--seed=3 (the run has 0)" in refused.value.what
    other = write_detector(tmp_path / "other", confident=False)[1]
    with pytest.raises(UserError, match="--checkpoint=source"):
        pld_mmdet.adapt(config, other, images, "lpld", **same)
    elsewhere = write_images(tmp_path / "elsewhere", 10)
    with pytest.raises(UserError, match="--images="):
        pld_mmdet.adapt(config, checkpoint, elsewhere, "lpld", **same)
    (out / "adapt.json").rename(tmp_path / "adapt.json")
    with pytest.raises(UserError, match=r"adapt\.json does not exist"):
        pld_mmdet.adapt(config, checkpoint, images, "lpld", **same)
    (tmp_path / "adapt.json").rename(out / "adapt.json")
    assert (out / "report.json").read_bytes() == report


def test_resume_keeps_its_own_images_and_its_recipe(user, tmp_path):
    """A folder that has grown changes neither the run nor its report."""
    config, checkpoint, _, _ = user
    images, out = write_images(tmp_path / "images", 6), tmp_path / "out"
    pld_mmdet.adapt(config, checkpoint, images, "lpld", out=out, say=quiet, **SHORT)
    before = json.loads((out / "report.json").read_text())
    write_images(images, 9)
    said = []
    again = dict(out=out, resume=True, say=said.append, **SHORT)
    pld_mmdet.adapt(config, checkpoint, images, "lpld", **again)
    assert "3 images came later; the run goes on without them." in said
    after = json.loads((out / "report.json").read_text())
    assert after["recipe"] == before["recipe"]
    assert after["recipe"]["images"] == 6
    (images / "000.png").unlink()
    with pytest.raises(UserError, match="for example 000"):
        pld_mmdet.adapt(config, checkpoint, images, "lpld", **again)


def test_two_processes_never_share_a_folder(tmp_path, capfd):
    with claimed(tmp_path / "out", resume=False):
        code = forked(lambda: claimed(tmp_path / "out", False).__enter__())
    assert code == 2
    assert "Another process is working in" in capfd.readouterr().out


def test_adabn_is_done_in_a_moment_and_trains_nothing(user, tmp_path):
    config, checkpoint, images, _ = user
    said = []
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        images,
        "adabn",
        out=tmp_path / "o",
        say=said.append,
        **SHORT,
    )
    network, _ = load_strictly(config, result.checkpoint)
    source = torch.load(checkpoint, weights_only=True)["state_dict"]
    moved = {
        k for k, v in network.state_dict().items() if not torch.equal(v, source[k])
    }
    assert moved
    assert {k.rpartition(".")[2] for k in moved} <= {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    assert "none given" in "\n".join(said)
    rule = next(line for line in said if line.startswith("Rule:"))
    assert "nothing is trained" in rule
    assert "iterations" not in rule
    assert "Not read: --iterations; --method adabn has no use for it." in said
    # resumed it is done again: its checkpoint holds no training state to go on with
    same = dict(out=tmp_path / "o", resume=True, say=quiet, **SHORT)
    again = pld_mmdet.adapt(config, checkpoint, images, "adabn", **same)
    weights, _ = load_strictly(config, again.checkpoint)
    pairs = zip(weights.state_dict().values(), network.state_dict().values())  # noqa: B905
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert again.outcome.history == result.outcome.history
    assert [row["iter"] for row in again.outcome.history] == [0, 1]


def test_adabn_of_a_few_images_is_refused_at_once(user, tmp_path):
    folder = write_images(tmp_path / "few", 7)
    said = []
    same = dict(out=tmp_path / "o", resume=True, say=said.append, **SHORT)
    with pytest.raises(UserError, match=r"on 8 images or more; .* has 7") as caught:
        pld_mmdet.adapt(*user[:2], folder, "adabn", **same)
    assert said[0] == f"Nothing to resume in {tmp_path / 'o'}: a new run begins."
    assert "mean_teacher" in caught.value.fix
    assert not (tmp_path / "o/adapt.json").exists()


def test_a_config_that_drops_more_than_the_rule_is_named(user, tmp_path):
    detector = read_detector(read_config(user[0]), user[1])
    recipe = choose_recipe(12, 4)
    for floor, count in ((0.05, 0), (0.9, 1)):
        said = []
        detector.config.test_cfg.rcnn.score_thr = floor
        say_floor(detector, recipe, said.append)
        assert len(said) == count
    assert "drops boxes below 0.9, so pseudo labels" in said[0]


def test_an_out_folder_that_cannot_be_made_names_its_option(user, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        pld_mmdet.adapt(*user[:3], out=tmp_path / "file/out")
    assert "--out," in caught.value.fix


def test_images_of_labels_that_are_not_given(user, tmp_path):
    with pytest.raises(UserError, match="nothing without --val"):
        pld_mmdet.adapt(*user[:3], out=tmp_path / "o", val_images=user[2])


def test_any_folder_of_photos_of_all_kinds(user, tmp_path):
    folder = strange_images(write_images(tmp_path / "photos", 12))
    (folder / "sub" / "broken.png").write_bytes(b"broken")
    said = []
    result = pld_mmdet.adapt(
        *user[:2],
        folder,
        "mean_teacher",
        out=tmp_path / "out",
        say=said.append,
        **SHORT,
    )
    assert result.skipped == [("sub/broken.png", "truncated")]
    assert any(
        s.startswith("Skipped 1 unreadable images: sub/broken.png") for s in said
    )
    assert "sub/broken.png" in result.report.read_text()
    assert "22 images" in said[1]


def test_folder_of_one_image(user, tmp_path):
    folder = write_images(tmp_path / "one", 1)
    said = []
    result = pld_mmdet.adapt(
        *user[:2], folder, "lpld", out=tmp_path / "out", say=said.append, **SHORT
    )
    assert result.recipe.batch == 1
    assert result.recipe.adabn_images == 0  # no statistics of one image
    assert "no AdaBN" in "\n".join(said)


def test_forced_collapse_keeps_the_good_weights(user, tmp_path):
    config, checkpoint, images, _ = user
    kwargs = {**SHORT, "iterations": 20}
    said = []
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        images,
        "mean_teacher",
        out=tmp_path / "out",
        lr=50.0,
        teacher_keep=0.3,
        threshold=0.2,
        say=said.append,
        **kwargs,
    )
    assert result.outcome.guard["state"] == "stopped"
    assert result.outcome.chosen_iter < 20
    network, _ = load_strictly(config, result.checkpoint)
    weights = torch.cat([p.flatten() for p in network.parameters()])
    assert torch.isfinite(weights).all()
    source, _ = load_strictly(config, checkpoint)
    first = torch.cat([p.flatten() for p in source.parameters()])
    assert torch.equal(weights, first)  # it was wrecked before the first window ended
    assert "Self-training collapsed" in result.report.read_text()
    assert "collapsed" in "\n".join(said)


def test_best_by_a_label_free_score(user, tmp_path):
    result = pld_mmdet.adapt(
        *user[:3],
        "lpld",
        out=tmp_path / "o",
        **{**SHORT, "select": "agreement"},
    )
    series = dict(result.outcome.series("label_free/agreement"))
    later = {i: v for i, v in series.items() if i > 0}
    assert result.outcome.chosen_iter == max(later, key=later.get)


def test_cascade_says_which_stage_mines(tmp_path):
    config, checkpoint = write_detector(tmp_path / "d", tiny_cascade(3))
    images = write_images(tmp_path / "images", 8)
    said = []
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        images,
        "lpld",
        out=tmp_path / "out",
        stage=0,
        say=said.append,
        **{**SHORT, "iterations": 2},
    )
    assert "box head 1 of 3 mines them (--stage 0)" in "\n".join(said)
    assert Config.fromfile(str(result.config)).model.stage == 0
    load_strictly(config, result.checkpoint)
    with pytest.raises(UserError, match="Stage 3 does not exist"):
        pld_mmdet.adapt(
            config, checkpoint, images, "lpld", out=tmp_path / "x", stage=3, **SHORT
        )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(config="none.py"), "config none.py does not exist"),
        (dict(checkpoint="none.pth"), "checkpoint none.pth does not exist"),
        (dict(images="none"), "image folder none does not exist"),
        (dict(val="none.json"), "annotation file none.json does not exist"),
        (dict(method="magic"), "'magic' is not known"),
        (dict(guard="pray"), "guard='pray' is not known"),
        (dict(guards="stop"), r"no option 'guards'\.\nDid you mean 'guard'"),
        (dict(select="best"), "select='best' is not known"),
        (dict(batch=-1), "batch: -1 is not a whole number from 1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    user, tmp_path, change, sentence
):
    arguments = dict(config=user[0], checkpoint=user[1], images=user[2]) | change
    with pytest.raises(UserError, match=sentence):
        pld_mmdet.adapt(**dict(SHORT, out=tmp_path / "out") | arguments)
    assert not (tmp_path / "out" / "config.py").exists()


def test_labels_never_reach_the_weights(user, adapted, tmp_path):
    config, checkpoint, images, labels = user
    content = json.loads(labels.read_text())
    rng = np.random.default_rng(0)
    for box in content["annotations"]:
        box["bbox"] = [float(v) for v in rng.integers(1, 30, 4)]
    noisy = images.parent / "noisy.json"
    noisy.write_text(json.dumps(content))
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        images,
        "lpld",
        val=noisy,
        out=tmp_path / "out",
        threshold=0.2,
        **SHORT,
    )
    ours = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    theirs = torch.load(adapted[0].checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items())

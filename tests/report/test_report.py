"""The report: numbers arrive, nothing is loaded, gaps are named, pictures are drawn."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from pld_mmdet.errors import UserError
from pld_mmdet.report import charts, words
from pld_mmdet.report.build import write_report
from pld_mmdet.report.collect import collect, spread
from pld_mmdet.report.curves import read_scalars, smooth
from pld_mmdet.report.page import build_page
from pld_mmdet.report.pictures import Panel, Strip, _judged, _truth, spaced
from pld_mmdet.report.words import quality_sentence
from tests.engine.processes import Tool
from tests.helpers import tiny_faster_rcnn
from tests.report.run_fixture import (
    CLASSES,
    FOG,
    write_images,
    write_run,
    write_scalars,
)

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects references and checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.references, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.references.append(value)
            if key == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page: str) -> Checker:
    """Well-formed, self-contained, inner links lead somewhere."""
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    for reference in checker.references:
        assert reference.startswith(("#", "data:image/jpeg;base64,"))
        if reference.startswith("#"):
            assert reference[1:] in checker.ids
    assert len(checker.ids) == len(set(checker.ids))
    assert not re.search(r"<(script|link|iframe)\b", page)
    assert "@import" not in page
    assert "url(" not in page
    return checker


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))


def test_numbers_of_three_seeds_appear(tmp_path):
    out = write_report(write_run(tmp_path), images=0)
    page = out.read_text()
    checked(page)
    text = text_of(page)
    assert "Trained on clear streets: 60.1 AP50." in text
    assert "In fog: 29.0." in text
    assert "Repaired with unlabelled foggy images: 46.2." in text
    assert "46.2 ± 1.0" in text
    assert "45.2 · 46.2 · 47.2" in text
    assert "AdaBN) alone accounts for 11.5 points" in text
    assert "54 % of the gap is closed" in text
    for fact in (
        "0123456789abcdef",
        "18.2",
        "tools/reproduce.py",
        "Some CPU",
        "0, 1, 2",
    ):
        assert fact in text
    for name in CLASSES:
        assert name in text
    assert "What is missing" not in text


def test_single_seed_says_so(tmp_path):
    page = write_report(write_run(tmp_path, seeds=(3,)), images=0).read_text()
    assert "One seed only (seed 3)" in page
    assert "±" not in text_of(page)


def test_missing_rows_are_named_not_invented(tmp_path):
    run_dir = write_run(tmp_path, rows=("source", "mean_teacher"))
    page = write_report(run_dir, images=2).read_text()
    checked(page)
    text = text_of(page)
    assert "LPLD: this row was not run." in text
    assert "Oracle: this row was not run." in text
    assert "Repaired with unlabelled foggy images: 45.9." in text
    assert "Pictures:" in text  # no checkpoints in this folder
    assert "gap is closed" not in text


def test_unfinished_run_without_result_file(tmp_path):
    run_dir = write_run(tmp_path, rows=("source", "adabn", "lpld"))
    (run_dir / "result.json").unlink()
    (run_dir / "seed_2" / "lpld" / "metrics_fog.json").unlink()
    page = write_report(run_dir, tmp_path / "page.html", images=0).read_text()
    text = text_of(page)
    assert "the run has not finished" in text
    assert "LPLD: no result on fog for seed 2." in text
    assert "Repaired with unlabelled foggy images: 45.7." in text  # of seeds 0 and 1
    assert "python tools/train.py lpld --seed 0" in text


def test_run_without_any_number(tmp_path):
    folder = tmp_path / "seed_0" / "source"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    text = text_of(write_report(tmp_path).read_text())
    assert "This run has no AP50 yet." in text
    assert "Source only: no result on fog yet." in text


def test_text_is_escaped(tmp_path):
    run_dir = write_run(tmp_path, seeds=(0,), name="<script>alert(1)</script>")
    result = json.loads((run_dir / "result.json").read_text())
    result["command"] = "python a.py --x '<b>' && \"y\""
    result["rows"][0]["description"] = "5 < 6 & <i>no tag</i>"
    (run_dir / "result.json").write_text(json.dumps(result))
    page = write_report(run_dir, images=0).read_text()
    checked(page)
    assert "&lt;script&gt;" in page
    assert "5 &lt; 6 &amp; &lt;i&gt;" in page


def test_a_loss_is_not_called_a_repair(tmp_path, monkeypatch):
    monkeypatch.setitem(FOG, "lpld", 0.25)
    text = text_of(write_report(write_run(tmp_path), images=0).read_text())
    assert "After adapting with unlabelled foggy images: 25.0." in text
    assert "Adapting did not help: it changed AP50 by −4.0 points." in text
    assert "gap is closed" not in text
    assert "−20.9 points" in text  # LPLD against Mean Teacher


def test_quick_run_warns(tmp_path):
    run_dir = write_run(tmp_path, seeds=(0,))
    result = json.loads((run_dir / "result.json").read_text()) | {"quick": True}
    (run_dir / "result.json").write_text(json.dumps(result))
    assert "A quick run." in write_report(run_dir, images=0).read_text()


def test_wrong_folders_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"neither result\.json nor"):
        write_report(tmp_path)
    (tmp_path / "result.json").write_text('{"rows": [')
    with pytest.raises(UserError, match="cannot be read as a file of a run"):
        write_report(tmp_path)


def test_nan_is_a_gap(tmp_path):
    run_dir = write_run(tmp_path, seeds=(0,))
    result = json.loads((run_dir / "result.json").read_text())
    seeds = result["rows"][4]["evaluate"]["fog"]["seeds"]["0"]
    seeds["coco/AP50"] = float("nan")  # our own writer makes null of it
    (run_dir / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="NaN is no number of json"):
        collect(run_dir)
    seeds["coco/AP50"] = None
    (run_dir / "result.json").write_text(json.dumps(result))
    run = collect(run_dir)
    assert run.row("lpld").values("fog", "coco/AP50") == {}
    assert run.adapted().name == "mean_teacher"
    assert not re.search(r"\bnan\b", text_of(build_page(run)), re.IGNORECASE)


def test_spread_is_the_sample_deviation():
    assert spread({0: 1.0, 1: 2.0, 2: 3.0}) == (2.0, 1.0)
    assert spread({0: 1.0}) == (1.0, None)


def test_difference_is_paired_by_seed(tmp_path):
    run = collect(write_run(tmp_path))
    # Each row moves by 0.01 a seed, so the paired difference has no spread at all.
    sentence = words.compare(run, "lpld", "mean_teacher")
    assert sentence.startswith("LPLD against Mean Teacher: +0.3 points ± 0.0 over 3")


def test_scalars_of_a_resumed_and_killed_run(tmp_path):
    write_scalars(tmp_path, seed=0, pseudo=True, iters=100)
    later = tmp_path / "20260102_000000" / "vis_data"
    later.mkdir(parents=True)
    lines = '{"loss": 7.5, "step": 100}\n{"loss": NaN, "step": 120}\n{"loss": 1, "st'
    (later / "scalars.json").write_text(lines)
    found = read_scalars(tmp_path)
    assert found["loss"][-1] == (100, 7.5)
    assert [step for step, _ in found["pseudo/high/car"]] == [20, 40, 60, 80, 100]
    assert read_scalars(tmp_path / "nothing") == {}


def test_smooth_keeps_the_mean():
    series = [(i, float(i % 2)) for i in range(120)]
    short = smooth(series, 60)
    assert short == [(2 * i + 1, 0.5) for i in range(60)]
    assert smooth(series[:10]) == series[:10]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 0), (0, 1e-5), (3, 61.2), (-2, 2), (0, 30000)]
)
def test_ticks_are_few_and_cover(low, high):
    ticks = charts.nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low
    assert ticks[-1] >= high


def test_ticks_fit_beside_the_axis():
    values = (0, 0.05, 0.0025, 0.00025, 12_500, 1_000_000, -0.125)
    said = ("0", "0.05", "0.0025", "2.5e-4", "12500", "1e+06", "-0.125")
    assert tuple(charts.tick_text(value) for value in values) == said


def test_images_are_evenly_spaced():
    assert spaced(6, 200) == [0, 40, 80, 119, 159, 199]
    assert spaced(6, 3) == [0, 1, 2]
    assert spaced(1, 9) == [0]
    assert spaced(4, 0) == []


def test_boxes_are_judged_by_class_overlap_and_order():
    truth = _truth(
        dict(
            instances=[
                dict(bbox=[0, 0, 10, 10], bbox_label=0, ignore_flag=0),
                dict(bbox=[50, 0, 60, 10], bbox_label=1, ignore_flag=0),
                dict(bbox=[80, 0, 90, 10], bbox_label=1, ignore_flag=1),
            ]
        )
    )
    boxes = np.array(
        [[0, 0, 10, 9], [0, 0, 10, 10], [50, 0, 60, 10], [80, 0, 90, 10], [0, 0, 9, 9]]
    )
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.4]), np.array([0, 0, 0, 1, 0])
    panel = _judged("x", (boxes, scores, labels), truth, ("car", "bus"))
    kinds = [box.kind for box in panel.boxes]
    assert kinds == ["right", "wrong", "wrong", "ignored", "missed"]
    assert panel.caption == "1 of 2 found, 2 wrong"


def test_quality_in_words():
    class Counted:
        images = 4

        def __init__(self, **numbers):
            self.numbers = {k.replace("__", "/"): v for k, v in numbers.items()}

        def summary(self):
            return self.numbers

    high = dict(objects__count=8, objects__found=0.25, high__per_image=1.0)
    sentence = quality_sentence(Counted(**high, high__right_class=0.5))
    assert "1.0 confident boxes an image; 50% lie on an object" in sentence
    assert "mines" not in sentence
    low = dict(low__per_image=3.0, low__on_object=0.67, low__right_class=0.33)
    sentence = quality_sentence(
        Counted(**high, **low, high__right_class=0.5, objects__gained_by_low=0.375)
    )
    assert "67% lie on some object, 33% on one of their class" in sentence
    assert "they reach 50% of the objects left" in sentence
    assert quality_sentence(Counted(objects__count=0)) == ""


def tiny_rows(tmp_path: Path) -> Path:
    """A run whose source and LPLD rows are real tiny detectors with checkpoints."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    run_dir = write_run(tmp_path / "run", rows=("source", "lpld"), seeds=(0,))
    ann_file = write_images(tmp_path / "data")
    init_default_scope("mmdet")
    detector = tiny_faster_rcnn(num_classes=3)
    models = {
        "source": detector,
        "lpld": dict(type="pld_mmdet.LPLD", detector=detector),
    }
    dataset = dict(
        type="mmdet.CocoDataset",
        data_root=str(tmp_path / "data"),
        ann_file=ann_file.name,
        data_prefix=dict(img=""),
        metainfo=dict(classes=tuple(CLASSES[:3])),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="mmdet.Resize", scale=(192, 128), keep_ratio=True),
            dict(
                type="mmdet.PackDetInputs",
                meta_keys=("img_id", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
    )
    for name, model in models.items():
        torch.manual_seed(0)
        folder = run_dir / "seed_0" / name
        config = Config(
            dict(
                model=model,
                test_dataloader=dict(dataset=dataset),
                test_evaluator=dict(
                    type="pld_mmdet.AP50Metric", ann_file=str(ann_file)
                ),
                default_scope="mmdet",
            )
        )
        config.dump(str(folder / "config.py"))
        state = MODELS.build(config.model).state_dict()
        torch.save({"state_dict": state}, folder / "iter_4.pth")
        (folder / "last_checkpoint").write_text("/moved/away/iter_4.pth")
    return run_dir


def test_pictures_of_real_detectors(tmp_path):
    page = write_report(tiny_rows(tmp_path), images=2).read_text()
    checked(page)
    text = text_of(page)
    assert "2 of the 5 test images, evenly spaced" in text
    assert "Test image 0: 0.png" in text
    assert "Test image 4: 4.png" in text
    assert "After LPLD" in text
    assert "confident boxes kept" in text
    assert "In 5 test images with 10 objects the teacher gives" in text
    assert page.count("data:image/jpeg;base64,") == 4  # two strips of each kind
    assert 'class="k-truth"' in page
    assert 'class="k-dropped"' in page
    assert "Pictures:" not in text
    assert "Below each name: its objects in the test set" in text


def test_broken_checkpoint_costs_the_pictures_only(tmp_path):
    run_dir = tiny_rows(tmp_path)
    (run_dir / "seed_0" / "lpld" / "iter_4.pth").write_bytes(b"no checkpoint")
    text = text_of(write_report(run_dir, images=2).read_text())
    assert "46.2" in text
    assert re.search(r"Pictures: .*iter_4\.pth", text)


def test_strip_text_is_escaped(tmp_path):
    strip = Strip(0, "<b>.png", "", 10, 10, [Panel("A & B", "<i>")])
    page = build_page(collect(write_run(tmp_path, seeds=(0,))), [strip], "a < b")
    assert "&lt;b&gt;.png" in page
    assert "A &amp; B" in page
    assert "a &lt; b" in page


def other_experiment(tmp_path: Path) -> Path:
    """The record of iCT (lower is better, no percent) as a run directory."""
    record = json.loads((ROOT / "docs/results/ict.json").read_text())
    values = dict(ct=(0.031, 0.035), ct_self=(0.022, 0.021), ict=(0.0125, 0.0133))
    record["rows"] = [row for row in record["rows"] if row["name"] in values]
    record["seeds"] = [0, 1]
    for row in record["rows"]:
        row["description"] = f"what {row['name']} is"
        for label, part in row["evaluate"].items():
            part["seeds"] = {
                str(seed): dict(energy_distance=value + (label == "two") * 0.5)
                for seed, value in enumerate(values[row["name"]])
            }
    (tmp_path / "result.json").write_text(json.dumps(record))
    (tmp_path / "pictures.png").write_bytes(b"not drawn here")
    return tmp_path


def test_any_experiment_gets_the_page(tmp_path):
    page = write_report(other_experiment(tmp_path), images=0).read_text()
    text = text_of(page)
    assert "Consistency training: 0.033 energy distance." in text
    assert "iCT: 0.0129 energy distance." in text
    assert "iCT against Consistency training: −0.0201 ± 0.002263 over 2 seeds" in text
    assert "iCT against ... without the averaged target: −0.0086" in text
    assert "energy distance; lower is better" in text
    assert "0.5129" in text  # the column of two steps
    assert "what ct_self is" in text
    assert "data:image/png;base64,bm90IGRyYXduIGhlcmU=" in page
    for words_of_streets in ("fog", "AP50", "Source only", "VOC"):
        assert words_of_streets not in text
    assert 'class="rung c-0"' in page
    assert 'class="rung c-2"' in page


def test_command_line(tmp_path):
    run_dir = write_run(tmp_path, seeds=(0,))
    log = tmp_path / "log"
    said = Tool("report", run_dir, "--images", 0, log=log).finish()
    assert f"Wrote {run_dir / 'report.html'}" in said
    said = Tool("report", tmp_path / "nowhere", log=log).finish(code=2)
    assert "Traceback" not in said
    assert "no run directory" in said

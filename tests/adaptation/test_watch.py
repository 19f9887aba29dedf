"""An adaptation that is watched: pictures, counts beside the loss, curves elsewhere."""

import http.client
import json
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

import pld_mmdet
from pld_mmdet.adaptation import examples, run
from pld_mmdet.adaptation.examples import ExampleHook, LabelTap
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.detection.mean_teacher import MeanTeacherSFOD
from pld_mmdet.errors import UserError
from tests.adaptation.tiny import CLASSES, spread_scores, write_detector, write_images
from tests.detection.helpers import batch_of, fresh
from tests.docs.commands import commands
from tests.engine.processes import Tool
from tests.helpers import tiny_faster_rcnn

ROOT = Path(__file__).resolve().parents[2]
SHORT = dict(workers=0, iterations=6, score_images=2, evaluations=1, threshold=0.2)
SHORT |= dict(select="last")


class Visitor(threading.Thread):
    """Looks at the page as often as it can."""

    def __init__(self, said: str) -> None:
        super().__init__(daemon=True)
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)/", said).group(1))
        self.pages: list[str] = []
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/")
                self.pages.append(connection.getresponse().read().decode())
            except (OSError, http.client.HTTPException):
                pass  # the run is over, in the middle of an answer or before one
            connection.close()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    root = tmp_path_factory.mktemp("user")
    config, checkpoint = write_detector(root / "detector")
    return config, checkpoint, write_images(root / "images", 10)


@pytest.fixture(scope="module")
def watched(user, tmp_path_factory):
    """An LPLD run with a visitor and TensorBoard, and what came of it."""
    out, visitors = tmp_path_factory.mktemp("out") / "lpld", []

    def say(line: str) -> None:
        if line.startswith("Watch:"):
            visitors.append(Visitor(line))

    result = pld_mmdet.adapt(
        *user, "lpld", out=out, watch=0, log=["tensorboard"], say=say, **SHORT
    )
    visitors[0].done.set()
    visitors[0].join()
    return SimpleNamespace(result=result, out=out, pages=visitors[0].pages)


def test_visitor_sees_the_run_grow(watched):
    assert "Waiting for the first iteration" in watched.pages[0]
    during = [page for page in watched.pages if re.search(r"Iteration \d of 6", page)]
    assert during
    assert 'class="k-high"' in during[-1]
    assert "What could not be drawn" not in "".join(watched.pages)


@pytest.fixture(scope="module")
def plain(user, tmp_path_factory):
    """The same run, which nobody looks at."""
    out = tmp_path_factory.mktemp("plain") / "lpld"
    pld_mmdet.adapt(*user, "lpld", out=out, say=lambda line: None, **SHORT)
    return out


def test_watching_changes_no_weight(watched, plain):
    ours, theirs = (
        torch.load(folder / "iter_6.pth", weights_only=True)["state_dict"]
        for folder in (watched.out, plain)
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_loss_of_nothing_is_explained_on_its_line(watched):
    (log,) = watched.out.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "Iter(train)" in line]
    assert lines
    for line in lines:
        assert re.search(r"loss: .*kept: \d.*mined: \d.*dropped: \d", line)


def test_pictures_and_dropped_boxes_are_written(watched):
    written = json.loads((watched.out / "examples.json").read_text())
    (first, *_) = written["images"]
    assert first["file"].endswith(".png")
    assert (first["width"], first["height"]) == (96, 64)
    assert set(first["counts"]) == {"kept", "mined", "dropped"}
    assert {box[0] for box in first["boxes"]} >= {"kept", "dropped"}
    assert any(box[5].partition(" ")[0] in CLASSES for box in first["boxes"])
    (scalars,) = watched.out.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    dropped = [row for row in rows if "pseudo/dropped" in row]
    assert [row["step"] for row in dropped] == [1, 2, 3, 4, 5, 6]
    row = dropped[0]
    parts = sum(row[f"pseudo/dropped/{name}"] for name in CLASSES)
    assert row["pseudo/dropped"] == pytest.approx(parts)


def test_browsing_the_adapted_detector(user, watched, tmp_path):
    """The command of docs/adapt.md, on a run without labels."""
    (command,) = [c for c in commands(ROOT / "docs" / "adapt.md") if "browse" in c.tool]
    places = dict(OUT=watched.out, IMAGES=user[2])
    words = [
        "/".join(str(places.get(part, part)) for part in word.split("/"))
        for word in command.words
    ]
    options = ["--out", tmp_path / "pictures", "--limit", 2]
    tool = Tool("browse_pseudo_labels", *words, *options, log=tmp_path / "log")
    assert re.search(r"001_\w+\.png: \d+ kept, \d+ mined", tool.finish())
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def tensorboard_tags(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing import event_file_loader

    (file,) = folder.glob("*/vis_data/events.out.tfevents.*")
    events = event_file_loader.EventFileLoader(str(file)).Load()
    return {value.tag for event in events for value in event.summary.value}


def test_tensorboard_gets_the_curves_and_the_work_dir_keeps_them(watched):
    tags = tensorboard_tags(watched.out)
    assert {"loss", "pseudo/high/cat", "guard/boxes", "label_free/agreement"} <= tags
    assert list(watched.out.glob("*/vis_data/scalars.json"))


def test_tensorboard_in_one_option_of_the_train_tool(plain, tmp_path):
    """The option is that of docs/adapt.md; --watch gives the address here too."""
    text = (ROOT / "docs" / "adapt.md").read_text(encoding="utf-8")
    (option,) = re.findall(r"`--cfg-options (visualizer\S+)`", text)
    options = ["--cfg-options", option, "train_cfg.max_iters=1"]
    options += ["--work-dir", tmp_path / "out", "--watch"]
    tool = Tool("train", plain / "config.py", *options, log=tmp_path / "log")
    assert "Watch:    http://127.0.0.1:" in tool.finish()
    assert "loss" in tensorboard_tags(tmp_path / "out")


def test_missing_libraries_are_named_before_anything_begins(
    user, tmp_path, monkeypatch
):
    def none(name, extra):
        raise UserError(f"needs {name}", f"pip install 'pld-mmdet[{extra}]'")

    monkeypatch.setattr(run, "require", none)
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pld-mmdet\[tensorboard\]"):
        pld_mmdet.adapt(*user, "lpld", out=tmp_path / "a", log=["tensorboard"], **SHORT)
    with pytest.raises(UserError, match="pip install wandb"):
        pld_mmdet.adapt(*user, "lpld", out=tmp_path / "a", log=["wandb"], **SHORT)
    with pytest.raises(UserError, match="log='paper' is not known"):
        pld_mmdet.adapt(*user, "lpld", out=tmp_path / "a", log=["paper"], **SHORT)
    assert not (tmp_path / "a").exists()


def test_composed_config_names_the_backend(watched):
    cfg = Config.fromfile(str(watched.out / "config.py"))
    kinds = [backend.type for backend in cfg.visualizer.vis_backends]
    assert kinds == ["LocalVisBackend", "TensorboardVisBackend"]


def wrapped(kind, **kwargs):
    torch.manual_seed(0)
    model = kind(tiny_faster_rcnn(3), hpl_threshold=0.2, **kwargs)
    model.init_weights()
    spread_scores(model.student)
    model.teacher.load_state_dict(model.student.state_dict())
    return model.train()


@pytest.mark.parametrize("kind", [MeanTeacherSFOD, LPLD])
def test_tap_hears_what_the_step_itself_asked(kind):
    model, batch = wrapped(kind), batch_of(2)
    calls = []
    predict = model.teacher.predict
    model.teacher.predict = lambda *a, **k: (calls.append(1), predict(*a, **k))[1]
    tap = LabelTap(model)
    fresh(model, batch)
    found = tap.close()
    assert len(calls) == 1  # no pass of its own
    assert tap.name not in vars(model)
    for name, counts in model.pseudo_counts.items():
        assert sum(len(boxes) for boxes in found[name]) == 2 * counts.sum().item()
    if kind is LPLD:
        data = model.data_preprocessor(batch_of(2), True)
        samples = data["data_samples"]["weak"]
        pseudo = model.pseudo_labels(data["inputs"]["weak"], samples)
        ours, theirs = found["dropped"], pseudo.dropped
        for mine, its in zip(ours, theirs, strict=True):
            assert torch.equal(mine.bboxes, its.bboxes)
    fresh(model, batch)
    assert tap.said is None


def test_a_failure_is_written_down_and_training_goes_on(tmp_path, monkeypatch):
    warned = []
    model = wrapped(MeanTeacherSFOD)
    runner = SimpleNamespace(
        model=model,
        iter=0,
        work_dir=str(tmp_path),
        logger=SimpleNamespace(warning=warned.append),
        message_hub=SimpleNamespace(update_scalar=lambda *a: None),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={})),
    )
    hook = ExampleHook(interval=1)

    def step(batch: dict) -> None:
        hook.before_train_iter(runner, 0, batch)
        fresh(model, batch)
        hook.after_train_iter(runner, 0, batch, {})

    def broken(*arguments):
        raise ValueError("no such picture")

    monkeypatch.setattr(examples, "picture", broken)
    step(batch_of(1))
    assert (
        "no such picture"
        in json.loads((tmp_path / "examples.json").read_text())["error"]
    )
    step(batch_of(1))
    assert len(warned) == 1  # it has given up and says so once

    hook = ExampleHook(interval=1)
    monkeypatch.setattr(examples, "write_atomic", broken)
    step(batch_of(1))
    assert "cannot be written" in warned[-1]
    # a model that labels nothing is left alone
    runner.model = torch.nn.Linear(1, 1)
    hook = ExampleHook(interval=1)
    hook.before_train_iter(runner, 0, {})
    hook.after_train_iter(runner, 0, {}, {})


def test_large_images_shrink_and_their_boxes_stay_in_pixels():
    image = torch.randint(0, 256, (3, 900, 1800), dtype=torch.uint8)
    model, batch = wrapped(MeanTeacherSFOD), batch_of(1)
    tap = LabelTap(model)
    fresh(model, batch)
    (high,) = tap.close()["high"]
    made = examples.picture(7, "/x/a.png", image, dict(kept=high), list(CLASSES))
    assert (made["width"], made["height"], made["file"]) == (1800, 900, "a.png")
    assert made["counts"] == dict(kept=len(high))
    assert made["boxes"][0][1:5] == pytest.approx(high.bboxes[0].tolist(), abs=0.06)
    floats = examples.picture(7, "a", image.float(), dict(kept=high), list(CLASSES))
    assert floats["jpeg"] == made["jpeg"]

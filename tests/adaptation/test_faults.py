"""What happens to people's folders, disks and processes; docs/faults.md lists it."""

import os
import re
import resource
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.visualization import LocalVisBackend
from PIL import Image

import pld_mmdet
from pld_mmdet.adaptation import run
from pld_mmdet.adaptation.folder import check_images, find_images
from pld_mmdet.detection.data.image_folder import ImageFolder
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.engine.state import checkpoint as files
from pld_mmdet.errors import UserError
from tests.adaptation.test_folder import PIPELINE
from tests.adaptation.tiny import load_strictly, write_detector, write_images
from tests.engine.processes import Tool, forked

ROOT = Path(__file__).resolve().parents[2]
SHORT = dict(workers=0, iterations=4, score_images=2, evaluations=2, threshold=0.2)
SHORT |= dict(select="last", adabn="off")


def quiet(line: str) -> None:
    """Receive the lines for the user."""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    root = tmp_path_factory.mktemp("user")
    config, checkpoint = write_detector(root / "detector")
    return config, checkpoint, write_images(root / "images", 10)


def weights(path: Path) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]


def equal(ours: dict, theirs: dict) -> bool:
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def photos(folder: Path, count: int = 48) -> list[tuple[str, tuple[int, int]]]:
    """JPEG files of all sizes and turns; names and the (w, h) one sees."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    seen = []
    for n in range(count):
        width, height = (int(side) for side in rng.integers(24, 260, 2))
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 1 + n % 8
        Image.fromarray(pixels).save(folder / f"{n:02d}.jpg", exif=exif)
        turned = 1 + n % 8 >= 5
        seen.append((f"{n:02d}.jpg", (height, width) if turned else (width, height)))
    return seen


def test_dozens_of_photos_of_all_sizes_and_turns(tmp_path):
    folder = tmp_path / "photos"
    seen = photos(folder)
    found = check_images(*find_images(folder))
    assert found.broken == []
    widths, heights = zip(*(size for _, size in seen), strict=True)
    assert found.sizes == (
        (min(widths), min(heights)),
        (max(widths), max(heights)),
    )
    import_mmdet()
    data = ImageFolder(str(folder), pipeline=PIPELINE)
    for item, (name, (width, height)) in zip(data, seen, strict=True):
        assert item["img_path"].endswith(name)
        assert item["img"].shape == (height, width, 3)


def test_more_than_five_percent_broken_stops_the_command(user, tmp_path):
    folder = write_images(tmp_path / "images", 20)
    for name in ("000.png", "002.png"):
        (folder / name).write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"2 of 20 images .* more than 5 %"):
        pld_mmdet.adapt(*user[:2], folder, "lpld", out=tmp_path / "out", **SHORT)
    assert not (tmp_path / "out" / "config.py").exists()


def test_images_of_24_megapixels(user, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    image = np.zeros((4000, 6000, 3), np.uint8)
    image[1000:3000, 2000:4000] = (40, 200, 250)
    cv2.imwrite(str(folder / "large.jpg"), image)
    said = []
    small = SHORT | dict(iterations=1, evaluations=1, score_images=1)
    result = pld_mmdet.adapt(
        *user[:2], folder, "lpld", out=tmp_path / "out", say=said.append, **small
    )
    assert "6000 x 4000 px" in said[1]
    load_strictly(user[0], result.checkpoint)


def test_folder_without_one_detectable_object_gives_the_weights_back(user, tmp_path):
    config, checkpoint = write_detector(tmp_path / "unsure", confident=False)
    said = []
    changes = SHORT | dict(iterations=30, threshold=0.99)
    result = pld_mmdet.adapt(
        config,
        checkpoint,
        user[2],
        "mean_teacher",
        out=tmp_path / "out",
        say=said.append,
        **changes,
    )
    assert result.outcome.guard["state"] == "stopped"
    assert len(result.outcome.guard["windows"]) == 2
    assert "not one pseudo label" in "\n".join(said)
    source = weights(checkpoint)
    moved = {
        name.rpartition(".")[2]
        for name, value in weights(result.checkpoint).items()
        if not torch.equal(value, source[name])
    }
    assert moved <= {"running_mean", "running_var", "num_batches_tracked"}


def test_killed_while_a_checkpoint_is_written(user, tmp_path):
    """The one before survives, and --resume ends where an unbroken run ends."""
    out = tmp_path / "out"
    save, count = files.torch.save, []

    def die(content, file):
        count.append(1)
        if len(count) == 2:
            file.write(b"half of a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, file)

    def run() -> None:
        files.torch.save = die
        pld_mmdet.adapt(*user, "lpld", out=out, say=quiet, **SHORT)

    assert forked(run) == -signal.SIGKILL
    assert (out / "last_checkpoint").read_text().endswith("iter_2.pth")
    assert not (out / "iter_4.pth").exists()
    weights(out / "iter_2.pth")  # whole
    pld_mmdet.adapt(*user, "lpld", out=out, resume=True, say=quiet, **SHORT)
    pld_mmdet.adapt(*user, "lpld", out=tmp_path / "whole", say=quiet, **SHORT)
    assert equal(weights(out / "iter_4.pth"), weights(tmp_path / "whole/iter_4.pth"))


def test_no_room_for_a_checkpoint(user, tmp_path, capfd):
    """A limit on the size of files stands for the full disk."""
    out = tmp_path / "out"

    def run() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        pld_mmdet.adapt(*user, "lpld", out=out, say=quiet, **SHORT)

    assert forked(run) == 2
    said = capfd.readouterr().out
    assert "iter_2.pth could not be written" in said
    assert "--resume" in said
    assert not list(out.glob("*.pth"))
    again = pld_mmdet.adapt(*user, "lpld", out=out, resume=True, say=quiet, **SHORT)
    load_strictly(user[0], again.checkpoint)


def test_full_disk_elsewhere_is_two_lines_too(user, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalVisBackend, "_dump", full)
    with pytest.raises(UserError, match="disk is full") as caught:
        pld_mmdet.adapt(*user, "lpld", out=tmp_path / "out", say=quiet, **SHORT)
    assert "--resume" in caught.value.fix


def test_several_processes_from_the_one_command(user, tmp_path):
    changes = SHORT | dict(iterations=2, evaluations=1)
    changes |= dict(adabn="off", select="last", gpus=2, batch=1, say=quiet)
    result = pld_mmdet.adapt(*user, "mean_teacher", out=tmp_path / "out", **changes)
    load_strictly(user[0], result.checkpoint)
    history = result.outcome.history
    assert [row["iter"] for row in history] == [0, 2]
    assert (tmp_path / "out" / "examples.json").is_file()


def test_a_process_that_is_killed_is_named_once(user, tmp_path, monkeypatch, capfd):
    """By the launcher that dist_train.sh has; no page of traces of torch's own."""
    script = tmp_path / "train.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    place = run.tool
    monkeypatch.setattr(
        run,
        "tool",
        lambda name: script if name == "train" else place(name),
    )
    changes = SHORT | dict(adabn="off", select="last", gpus=2, batch=1, say=quiet)
    with pytest.raises(UserError, match=r"on 2 processes ended with code 137"):
        pld_mmdet.adapt(*user, "mean_teacher", out=tmp_path / "out", **changes)
    said = capfd.readouterr().err
    assert said.count("was ended by SIGKILL") == 1
    assert "Traceback" not in said


def test_interrupted_command_says_how_to_go_on(user, tmp_path):
    """Ctrl-C in the middle of a run that is watched; nobody is left behind."""
    options = ["--iterations", 5000, "--evaluations", 1, "--score-images", 1]
    options += ["--out", tmp_path / "out", "--workers", 1, "--watch"]
    options += ["--method", "lpld", "--adabn", "off"]
    tool = Tool("adapt", *user, *options, log=tmp_path / "log")
    tool.wait_for(tmp_path / "out" / "examples.json")
    tool.kill(signal.SIGINT)  # as the terminal does: to the whole group
    said = tool.finish(130)
    assert "Interrupted. Nothing before the last checkpoint is lost" in said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(tool.process.pid, 0)


def test_every_row_of_the_table_names_a_test():
    """tests/docs/test_commands.py asks whether it is there."""
    table = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| what |")]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named or "measured" in row, row

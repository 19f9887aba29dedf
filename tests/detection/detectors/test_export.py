"""An exported file is a stock detector's checkpoint, bit for bit the network in it."""

from pathlib import Path

import pytest
import torch

from pld_mmdet.detection.detectors.export import export_detector
from pld_mmdet.engine.run.stack import import_mmdet
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool
from tests.helpers import tiny_faster_rcnn


@pytest.fixture(scope="module")
def networks():
    import_mmdet()
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    built = {}
    with DefaultScope.overwrite_default_scope("mmdet"):
        for seed, name in enumerate(("student", "teacher", "empty")):
            torch.manual_seed(seed)
            built[name] = MODELS.build(tiny_faster_rcnn()).eval()
            for key, value in built[name].state_dict().items():
                if "running_" in key:  # so that forgetting them would show
                    value.uniform_(0.5, 1.5)
    return built


@pytest.fixture
def checkpoint(networks, tmp_path):
    state = {
        f"{name}.{key}": value
        for name in ("student", "teacher")
        for key, value in networks[name].state_dict().items()
    }
    meta = {
        "dataset_meta": {"classes": ("a", "b", "c")},
        "cfg": "model = dict(type='pld_mmdet.LPLD', predict_on='teacher')",
        "iter": 7,
    }
    path = tmp_path / "run.pth"
    torch.save({"state_dict": state, "meta": meta, "optimizer": {"state": {}}}, path)
    return path


def detections(detector):
    from mmdet.structures import DetDataSample

    torch.manual_seed(9)
    images = [torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)]
    sample = DetDataSample(
        metainfo={
            "img_shape": (64, 64),
            "ori_shape": (64, 64),
            "scale_factor": (1.0, 1.0),
            "batch_input_shape": (64, 64),
        }
    )
    with torch.no_grad():
        out = detector.test_step({"inputs": images, "data_samples": [sample]})
    return out[0].pred_instances


@pytest.mark.parametrize("network", ["student", "teacher", None])
def test_export_equals_the_network(networks, checkpoint, tmp_path, network):
    from mmengine.runner.checkpoint import load_checkpoint

    out = tmp_path / "out.pth"
    expected = network or "teacher"  # what the run's config names as its result
    assert export_detector(checkpoint, out, network, tiny_faster_rcnn()) == expected
    stock = networks["empty"]
    loaded = load_checkpoint(stock, str(out), map_location="cpu", strict=True)
    content = torch.load(out, weights_only=True)
    assert set(content) == {"meta", "state_dict"}
    assert loaded["meta"]["dataset_meta"]["classes"] == ("a", "b", "c")
    assert content["meta"]["exported_network"] == expected
    a, b = detections(stock), detections(networks[expected])
    assert len(a) == len(b) > 0
    assert torch.equal(a.bboxes, b.bboxes)
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.labels, b.labels)


def test_tool_checks_against_a_config(checkpoint, tmp_path):
    config, log = tmp_path / "config.py", tmp_path / "log"
    model = tiny_faster_rcnn().to_dict()
    config.write_text(f"model = dict(type='pld_mmdet.LPLD', detector={model!r})")
    out = tmp_path / "out.pth"
    output = Tool("export", checkpoint, out, "--config", config, log=log).finish()
    assert "teacher, loads strictly" in output
    model["neck"]["out_channels"] = 8
    config.write_text(f"model = {model!r}")
    other = tmp_path / "other.pth"
    output = Tool("export", checkpoint, other, "--config", config, log=log).finish(2)
    assert "another architecture" in output
    assert not Path(other).exists()


def test_plain_detector_loses_its_training_state(networks, tmp_path):
    state = networks["student"].state_dict()
    torch.save({"state_dict": state, "optimizer": {}}, tmp_path / "a.pth")
    assert export_detector(tmp_path / "a.pth", tmp_path / "b.pth") == "detector"
    content = torch.load(tmp_path / "b.pth", weights_only=True)
    assert content["state_dict"].keys() == state.keys()
    with pytest.raises(UserError, match="holds no teacher"):
        export_detector(tmp_path / "a.pth", tmp_path / "b.pth", "teacher")


def test_mean_of_the_newest_checkpoints(tmp_path):
    """Of 2, 9 and 10 the newest two: numbers are not sorted as words."""
    for number, value, seen in ((2, 50.0, 1), (9, 1.0, 6), (10, 4.0, 8)):
        teacher = {"w": torch.full((2,), value), "batches": torch.tensor(seen)}
        state = {f"teacher.{key}": value for key, value in teacher.items()}
        state |= {f"student.{key}": -value for key, value in teacher.items()}
        meta = {"iter": number, "cfg": "model = dict(predict_on='teacher')"}
        path = tmp_path / f"iter_{number}.pth"
        torch.save({"state_dict": state, "meta": meta}, path)
    path.rename(tmp_path / "kept.pth")
    (tmp_path / "last.pth").symlink_to("kept.pth")
    torch.save(torch.load(tmp_path / "kept.pth", weights_only=True), path)
    out = tmp_path / "out.pth"
    assert export_detector(tmp_path / "last.pth", out, mean_of=2) == "teacher"
    content = torch.load(out, weights_only=True)
    assert content["state_dict"]["w"].tolist() == [2.5, 2.5]
    assert content["state_dict"]["batches"] == 8
    assert content["meta"]["iter"] == 10
    assert len(content["meta"]["exported_from_sha256"].split(", ")) == 2
    export_detector(tmp_path / "last.pth", out, "student", mean_of=3)
    means = torch.load(out, weights_only=True)["state_dict"]
    assert means["w"][0].item() == pytest.approx(-55 / 3)
    for count in (0, 4):
        with pytest.raises(UserError, match=f"mean of {count} .* holds 3 with"):
            export_detector(tmp_path / "last.pth", out, mean_of=count)
    torch.save({"state_dict": {"w": torch.zeros(3)}}, tmp_path / "epoch_11.pth")
    with pytest.raises(UserError, match=r"iter_10\.pth and .*epoch_11\.pth hold diff"):
        export_detector(tmp_path / "last.pth", out, mean_of=2)
    with pytest.raises(UserError, match="OUT"):
        export_detector(tmp_path / "last.pth", tmp_path / "iter_10.pth", mean_of=2)


def test_unclear_result_asks(networks, tmp_path):
    state = {"student.w": torch.zeros(1), "teacher.w": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="--network teacher or --network student"):
        export_detector(tmp_path / "a.pth", tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("model = dict(detector=dict(type='FCOS'), type='pld_mmdet.LPLD')", "teacher"),
        ("seed = 1\nmodel = dict(type='pld_mmdet.BoxJitterSoftTeacher')", "student"),
        ("model = dict(type='pld_mmdet.SoftTeacher')", "teacher"),
        ("model = dict(type='pld_mmdet.LPLD', predict_on='student')", "student"),
        ("model = dict(type='mmdet.FasterRCNN')", None),
        ("model = dict(type='pld_mmdet.NoSuchThing')", None),
        ("model = dict(type=", None),
        ("model = 3", None),
        ("raise SystemExit(7)", None),
    ],
)
def test_a_config_that_is_silent_means_its_models_default(tmp_path, text, network):
    state = {"student.w": torch.zeros(1), "teacher.w": torch.ones(1)}
    torch.save({"state_dict": state, "meta": {"cfg": text}}, tmp_path / "a.pth")
    if network is None:
        with pytest.raises(UserError, match="does not say which is the result"):
            export_detector(tmp_path / "a.pth", tmp_path / "b.pth")
        return
    assert export_detector(tmp_path / "a.pth", tmp_path / "b.pth") == network
    weights = torch.load(tmp_path / "b.pth", weights_only=True)["state_dict"]
    assert weights["w"].item() == (network == "teacher")


def test_nothing_that_is_not_finite_is_exported(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["teacher.roi_head.bbox_head.fc_cls.bias"][1] = float("nan")
    torch.save(content, checkpoint)
    for model in (None, tiny_faster_rcnn()):
        with pytest.raises(UserError, match=r"fc_cls\.bias \(NaN or infinity in 1 of"):
            export_detector(checkpoint, tmp_path / "out.pth", model=model)
    assert not (tmp_path / "out.pth").exists()
    assert export_detector(checkpoint, tmp_path / "out.pth", "student") == "student"


def test_output_that_is_the_input_is_refused(checkpoint, tmp_path):
    before = checkpoint.read_bytes()
    (tmp_path / "link.pth").symlink_to(checkpoint)
    for out in (checkpoint, tmp_path / "link.pth"):
        with pytest.raises(UserError, match="would be destroyed"):
            export_detector(checkpoint, out)
    assert checkpoint.read_bytes() == before

"""The tools end to end on the toy project: loading, refusing, ending, recording."""

import hashlib
import json
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from pld_mmdet.engine.run.runner import SafeRunner, find_latest
from pld_mmdet.engine.state.weights import (
    compare_classes,
    load_weights,
    report_mismatch,
)
from pld_mmdet.errors import UserError
from tests.engine.processes import Tool
from tests.engine.state.test_checkpoint import Payload
from tests.engine.toy import write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished toy run: its folder, with the config in it."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder)
    Tool("train", config, "--work-dir", folder / "run", log=folder / "log").finish()
    return folder


def run(tmp_path, tool, *arguments, code=0, **environment):
    log = tmp_path / "log"
    return Tool(tool, *arguments, log=log, **environment).finish(code)


def refused(tmp_path, *arguments, tool="train"):
    """Run a tool that must end in two lines and exit code 2; return the lines."""
    output = run(tmp_path, tool, *arguments, code=2)
    assert "Traceback" not in output
    lines = output[output.index("error: ") :].strip().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("fix: ")
    return lines


def spoil(trained, path, **changes):
    content = torch.load(trained / "run/last.pth", weights_only=True)
    content.update(changes)
    torch.save(content, path)
    return path


def test_run_directory(trained):
    work = trained / "run"
    record = json.loads((work / "run.json").read_text())
    assert record["exit"] == "finished"
    assert record["command"].startswith("python tools/train.py")
    assert record["seed"] == 3
    assert record["data"]["train"] == {"images": 24}
    assert len(record["init_sha256"]) == 64
    assert record["versions"]["torch"] == torch.__version__
    assert record["peak_memory_mb"]["host"] > 0
    assert {"processor", "cores", "threads", "gpus"} == set(record["machine"])
    progress = json.loads((work / "progress.json").read_text())
    assert (progress["iter"], progress["max_iters"]) == (12, 12)
    assert progress["stage"] == "done"
    assert progress["loss"] > 0
    assert "ToyModel" in (work / "config.py").read_text()
    assert (work / "last.pth").resolve() == (work / "iter_12.pth").resolve()
    assert sorted(p.name for p in work.glob("iter_*")) == ["iter_12.pth", "iter_6.pth"]


def test_stock_torch_and_stock_runner_read_it(trained):
    from mmengine.runner.checkpoint import load_checkpoint

    from tests.engine.toy import ToyModel

    content = torch.load(trained / "run/iter_12.pth", weights_only=True)
    model = ToyModel()
    load_checkpoint(model, str(trained / "run/iter_12.pth"), strict=True)
    weights = content["state_dict"]
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_test_tool_writes_metrics(trained, tmp_path):
    out = tmp_path / "deep" / "metrics.json"
    arguments = [trained / "toy.py", trained / "run/last.pth", "--split", "val"]
    run(
        tmp_path, "test", *arguments, "--out-metrics", out, "--work-dir", tmp_path / "w"
    )
    report = json.loads(out.read_text())
    assert 0 <= report["metrics"]["accuracy"] <= 1
    assert report["split"] == "val"
    assert len(report["checkpoint_sha256"]) == 64
    assert report["seconds"] > 0
    assert report["command"].startswith("python tools/test.py")


def test_test_tool_needs_the_split_that_is_asked_for(trained, tmp_path):
    config = tmp_path / "no_val.py"
    text = "val_dataloader = val_evaluator = val_cfg = None\n"
    config.write_text(f"_base_ = ['{trained / 'toy.py'}']\n{text}")
    arguments = [config, trained / "run/last.pth", "--split", "val"]
    lines = refused(tmp_path, *arguments, tool="test")
    assert "no_val.py has no val_dataloader" in lines[0]


def test_a_loader_without_workers_keeps_and_fetches_nothing():
    loader = dict(
        dataset=[1, 2, 3],
        sampler=dict(type="DefaultSampler", shuffle=False),
        batch_size=2,
        collate_fn=dict(type="default_collate"),
        num_workers=0,
        persistent_workers=True,
        prefetch_factor=4,
    )
    made = SafeRunner.build_dataloader(loader)
    assert [len(batch) for batch in made] == [2, 1]
    assert loader["persistent_workers"]  # the config stays as it was written


def test_resume_before_the_first_checkpoint_keeps_load_from(trained, tmp_path):
    """mmengine would start from random weights here."""
    source = trained / "run/last.pth"
    arguments = [trained / "toy.py", "--work-dir", tmp_path / "w", "--resume"]
    output = run(tmp_path, "train", *arguments, "--cfg-options", f"load_from={source}")
    assert "starting from the beginning" in output
    record = json.loads((tmp_path / "w/run.json").read_text())
    assert record["init_from"] == str(source)
    first = json.loads((trained / "run/run.json").read_text())
    assert record["init_sha256"] != first["init_sha256"]


def test_other_class_names_stop_the_run(trained, tmp_path):
    lines = refused(
        tmp_path,
        trained / "toy.py",
        "--work-dir",
        tmp_path / "w",
        "--cfg-options",
        f"load_from={trained / 'run/last.pth'}",
        "train_dataloader.dataset.dataset.classes=[dog,cat]",
    )
    assert "number 0 is 'cat' there and 'dog' in the data set" in lines[0]


def test_other_architecture_stops_the_run_unless_fine_tuning(trained, tmp_path):
    arguments = [
        trained / "toy.py",
        "--work-dir",
        tmp_path / "w",
        "--cfg-options",
        f"load_from={trained / 'run/last.pth'}",
        "model.width=9",
    ]
    lines = refused(tmp_path, *arguments)
    assert "another architecture than ToyModel" in lines[0]
    assert "net.0.weight: file [8, 6], model [9, 6]" in lines[0]
    output = run(tmp_path, "train", *arguments, "fine_tune=True")
    assert "Loaded in part" in output


def test_a_record_names_the_files_of_init_cfg(trained, tmp_path):
    weights = trained / "run/last.pth"
    options = ["train_cfg.max_iters=1", "model.init_cfg.type=Pretrained"]
    options += [f"model.init_cfg.checkpoint={weights}"]
    arguments = ["--work-dir", tmp_path / "w", "--cfg-options", *options]
    run(tmp_path, "train", trained / "toy.py", *arguments)
    record = json.loads((tmp_path / "w/run.json").read_text())
    assert record["pretrained"] == {
        str(weights): hashlib.sha256(weights.read_bytes()).hexdigest()
    }


def test_nothing_that_fits_is_refused(trained, tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {"elsewhere.weight": torch.arange(6.0)}}, other)
    config = [trained / "toy.py", "--work-dir", tmp_path / "w", "--cfg-options"]
    init = ["model.init_cfg.type=Pretrained", f"model.init_cfg.checkpoint={other}"]
    lines = refused(tmp_path, *config, *init)
    assert f"{other}, which init_cfg names, does not fit ToyModel" in lines[0]
    # the key alone is new, and nothing else would say that it is none
    key = "optim_wrapper.paramwise_cfg.custom_keys.nett.lr_mult=0.1"
    lines = refused(tmp_path, *config, key)
    assert "custom_keys.nett: no parameter of ToyModel" in lines[0]
    assert "Did you mean net?" in lines[1]


def test_hostile_checkpoints_do_nothing(trained, tmp_path):
    sign = tmp_path / "executed"
    evil = spoil(trained, tmp_path / "evil.pth", extra=Payload(sign))
    config = [trained / "toy.py", "--work-dir", tmp_path / "w"]
    for arguments in (
        ["--cfg-options", f"load_from={evil}"],
        ["--resume", evil],
        [
            "--cfg-options",
            "model.init_cfg.type=Pretrained",
            f"model.init_cfg.checkpoint={evil}",
        ],
    ):
        lines = refused(tmp_path, *config, *arguments)
        assert "refused and not executed" in lines[0]
        assert not sign.exists()
    refused(tmp_path, trained / "toy.py", evil, tool="test")
    assert not sign.exists()


def test_config_text_in_a_checkpoint_is_not_run(trained, tmp_path):
    """mmengine's resume executes meta['config'] as Python."""
    sign = tmp_path / "executed"
    content = torch.load(trained / "run/iter_6.pth", weights_only=True)
    content["meta"]["config"] = f"import os\nos.mkdir({str(sign)!r})"
    torch.save(content, tmp_path / "evil.pth")
    arguments = ["--work-dir", tmp_path / "w", "--resume", tmp_path / "evil.pth"]
    run(tmp_path, "train", trained / "toy.py", *arguments)
    assert not sign.exists()
    assert (tmp_path / "w/iter_12.pth").exists()


def test_resume_needs_a_training_state(trained, tmp_path):
    content = torch.load(trained / "run/last.pth", weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "plain.pth")
    arguments = ["--work-dir", tmp_path / "w", "--resume", tmp_path / "plain.pth"]
    lines = refused(tmp_path, trained / "toy.py", *arguments)
    assert "cannot be resumed" in lines[0]
    assert "load_from=" in lines[1]


def test_ctrl_c_says_how_to_go_on(trained, tmp_path):
    work = tmp_path / "w"
    tool = Tool(
        "train",
        trained / "toy.py",
        "--work-dir",
        work,
        log=tmp_path / "log",
        TOY_PAUSE=8,
    )
    tool.wait_for(work / "paused")
    tool.kill(signal.SIGINT)
    output = tool.finish(code=130)
    assert "Traceback" not in output
    assert "iter_6.pth; go on with" in output
    assert output.strip().endswith("--resume")
    assert json.loads((work / "run.json").read_text())["exit"] == "interrupted"
    assert json.loads((work / "progress.json").read_text())["iter"] == 8


def test_unwritable_work_dir(trained, tmp_path):
    (tmp_path / "file").write_text("")
    lines = refused(tmp_path, trained / "toy.py", "--work-dir", tmp_path / "file")
    assert "cannot be written" in lines[0]
    assert "--work-dir" in lines[1]


def test_wrong_options(trained, tmp_path):
    lines = refused(tmp_path, trained / "toy.py", "--cfg-options", "max_iters:3")
    assert "KEY=VALUE" in lines[0]
    lines = refused(tmp_path, tmp_path / "none.py")
    assert "does not exist" in lines[0]
    lines = refused(tmp_path, trained / "toy.py", "--amp", "fp16")
    assert "needs a GPU" in lines[0]


def test_seed_and_amp_arguments(trained, tmp_path):
    arguments = ["--work-dir", tmp_path / "w", "--seed", 5, "--amp", "bf16"]
    run(tmp_path, "train", trained / "toy.py", *arguments)
    assert json.loads((tmp_path / "w/run.json").read_text())["seed"] == 5
    assert "FiniteAmpOptimWrapper" in (tmp_path / "w/config.py").read_text()


def test_newest_checkpoint_is_found_also_after_moving(tmp_path):
    assert find_latest(tmp_path) is None
    for name in ("iter_9.pth", "iter_10.pth", "best_accuracy_iter_99.pth"):
        (tmp_path / name).touch()
    assert Path(find_latest(tmp_path)).name == "iter_10.pth"
    (tmp_path / "last_checkpoint").write_text("/elsewhere/run/iter_9.pth")
    assert find_latest(tmp_path) == str(tmp_path / "iter_9.pth")
    older = tmp_path / "the run that was copied"
    older.mkdir()
    (older / "iter_9.pth").touch()
    (tmp_path / "last_checkpoint").write_text(str(older / "iter_9.pth"))
    assert find_latest(tmp_path) == str(tmp_path / "iter_9.pth")
    (tmp_path / "iter_9.pth").unlink()  # written elsewhere: CheckpointHook(out_dir)
    assert find_latest(tmp_path) == str(older / "iter_9.pth")
    (tmp_path / "last_checkpoint").write_text("")
    assert Path(find_latest(tmp_path)).name == "iter_10.pth"


def test_mismatch_collects_all_three_kinds():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = model.state_dict()
    state["0.weight"] = torch.zeros(4, 2)
    state["extra"] = torch.zeros(1)
    del state["1.bias"], state["1.num_batches_tracked"]
    mismatch = load_weights(model, state)
    assert mismatch.missing == ["1.bias"]
    assert mismatch.unexpected == ["extra"]
    assert mismatch.shapes == ["0.weight: file [4, 2], model [3, 2]"]
    with pytest.raises(UserError, match="4 of 6 entries fit"):
        report_mismatch(model, state, "a.pth")
    assert "a.pth" in report_mismatch(model, state, "a.pth", partial=True)
    with pytest.raises(UserError, match="0 of 6"):
        report_mismatch(model, {"other": torch.zeros(1)}, "a.pth", partial=True)
    assert report_mismatch(model, model.state_dict(), "a.pth") is None


def test_load_hooks_of_the_model_are_run():
    model = nn.Sequential(nn.Linear(2, 2))

    def rename(module, state, prefix, *rest):
        for key in list(state):
            state[key.replace("old.", "0.")] = state.pop(key)

    model._register_load_state_dict_pre_hook(rename, with_module=True)
    state = {"old.weight": torch.ones(2, 2), "old.bias": torch.ones(2)}
    assert not load_weights(model, state)
    assert model[0].weight.sum() == 4
    assert set(state) == {"old.weight", "old.bias"}  # the caller's dict is untouched


def test_class_comparison_names_the_first_difference():
    compare_classes(("a", "b"), ["a", "b"], "x")
    compare_classes(None, ("a",), "x")
    with pytest.raises(UserError, match="number 1 is 'c' there and 'b'"):
        compare_classes(("a", "b"), ("a", "c"), "x")
    with pytest.raises(UserError, match="number 1 is 'nothing' there and 'b'"):
        compare_classes(("a", "b"), ("a",), "x")

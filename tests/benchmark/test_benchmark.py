"""The benchmark itself: its clock, its rival's faithfulness, its command."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console

from pld_mmdet.benchmark.cases import CASES, choose_cases, function_of, run_cases
from pld_mmdet.benchmark.data import loader_pair
from pld_mmdet.benchmark.images import ROOT, image_files
from pld_mmdet.benchmark.networks import make_realistic, total, training_step
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.released import released_rival
from pld_mmdet.benchmark.table import print_results, write_results
from pld_mmdet.benchmark.timing import Comparison, Measurement, Timing, run_in_turn
from pld_mmdet.detection.lpld import LPLD
from pld_mmdet.distill.adabn import batch_norms
from pld_mmdet.errors import UserError
from tests.detection.helpers import batch_of, tiny_c4
from tests.helpers import tiny_faster_rcnn


@pytest.fixture
def mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


class FakeClock:
    """Stands for the module ``time``: a tenth of each sleep counts as work."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds):
        self.now += seconds

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.now / 10


class TestTiming:
    def test_sides_run_in_turn_and_warm_up_is_not_counted(self):
        calls = []
        sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
        timings = run_in_turn(sides, rounds=3, warm_up=1)
        assert "".join(calls) == "abababab"
        assert [len(t.wall) for t in timings.values()] == [3, 3]

    def test_ratio_of_sleeps_by_either_clock(self, monkeypatch):
        clock = FakeClock()
        monkeypatch.setattr("pld_mmdet.benchmark.timing.time", clock)
        sides = {"slow": lambda: clock.sleep(0.06), "fast": lambda: clock.sleep(0.02)}
        timings = run_in_turn(sides, rounds=5, warm_up=0)
        result = Comparison("case", "", timings, "slow", ("fast",), 2.0, clock="wall")
        assert result.ratio == pytest.approx(3.0)
        assert result.met is False
        assert timings["slow"].median("cpu") == pytest.approx(0.006)

    def test_a_sleep_takes_its_time_and_no_processor(self):
        timing = run_in_turn({"side": lambda: time.sleep(0.1)}, 1, warm_up=0)["side"]
        assert timing.wall[0] >= 0.1
        assert timing.cpu[0] < 0.1

    def test_rivals_are_added_up_and_rounds_are_paired(self):
        timings = {
            "whole": Timing(cpu=[4.0, 5.0, 9.0]),
            "half": Timing(cpu=[1.0, 2.0, 3.0]),
            "other half": Timing(cpu=[3.0, 3.0, 3.0]),
        }
        result = Comparison("", "", timings, "whole", ("half", "other half"), 1.0)
        assert result.ratio == 1.0
        assert result.paired == [1.0, 1.0, 1.5]
        assert result.met is True


def tiny_lpld(
    detector: dict, mined: int, images: int, seed: int = 0
) -> tuple[LPLD, dict]:
    """LPLD with random but confident networks, and a preprocessed batch.

    Batch norm is frozen as in the recipes: else one image at a time would be another
    network than the batch.
    """
    torch.manual_seed(seed)
    model = LPLD(detector).train()
    data = model.data_preprocessor(batch_of(images), training=True)
    make_realistic(model, data["inputs"], data["data_samples"], mined)
    with torch.no_grad():  # a student that differs, as after some steps
        for parameter in model.student.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    for layer in batch_norms(model.student):
        layer.eval()
    return model, data


def losses_of_rival(model: LPLD, data: dict, image: int):
    rival = released_rival(model)
    losses, kept = rival.image_losses(
        data["inputs"]["weak"][image : image + 1],
        data["inputs"]["strong"][image : image + 1],
        data["data_samples"]["weak"][image],
        data["data_samples"]["strong"][image],
    )
    return rival, losses, kept


@pytest.mark.parametrize("detector", [tiny_faster_rcnn, tiny_c4])
class TestReleasedOrder:
    def test_one_image_has_the_same_losses_and_gradients(self, detector):
        model, data = tiny_lpld(detector(), mined=6, images=1)
        torch.manual_seed(1)
        ours = model.loss(data["inputs"], data["data_samples"])
        torch.manual_seed(1)
        rival, theirs, kept = losses_of_rival(model, data, 0)
        assert kept == 6
        assert ours["loss_lpl"].item() > 1e-4
        assert ours.keys() == theirs.keys()
        assert ours["loss_lpl"].item() == pytest.approx(
            theirs["loss_lpl"].item(), rel=1e-5
        )
        assert total(ours).item() == pytest.approx(total(theirs).item(), rel=1e-5)
        total(ours).backward()
        total(theirs).backward()
        named = dict(rival.student.named_parameters())
        for name, parameter in model.student.named_parameters():
            if parameter.grad is not None:
                wanted = named[name].grad
                rounding = 1e-5 * wanted.abs().max().item()
                assert torch.allclose(parameter.grad, wanted, 1e-3, rounding), name

    def test_a_batch_pools_the_rows_of_all_images(self, detector):
        # A convolution rounds otherwise for three images than for one, and a proposal
        # on the edge of a rule can flip: on each processor some seeds have none.
        for seed in range(8):
            model, data = tiny_lpld(detector(), mined=12, images=3, seed=seed)
            single = [losses_of_rival(model, data, n)[1:] for n in range(3)]
            counts = [kept for _, kept in single]
            if sum(counts) == 12:
                break
        assert sum(counts) == 12
        assert sum(count > 0 for count in counts) > 1
        ours = model.loss(data["inputs"], data["data_samples"])["loss_lpl"].item()
        pooled = sum(kept * losses["loss_lpl"].item() for losses, kept in single) / 12
        assert ours == pytest.approx(pooled, rel=1e-5)


def test_a_timed_step_repeats_itself():
    model, data = tiny_lpld(tiny_faster_rcnn(), mined=6, images=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = []

    def backward():
        losses = model.loss(data["inputs"], data["data_samples"])
        total(losses).backward()
        seen.append((total(losses).item(), model.pseudo_counts["low"].sum().item()))

    step = training_step(backward, model.student, teacher=None)
    step()
    step()
    assert seen[0] == seen[1]
    assert seen[0][1] == 3  # six rows, two images
    for name, tensor in model.student.state_dict().items():
        assert torch.equal(tensor, before[f"student.{name}"]), name


def test_too_few_candidates_are_named():
    model = LPLD(tiny_faster_rcnn()).train()
    data = model.data_preprocessor(batch_of(1), training=True)
    with pytest.raises(UserError, match="1000 were to be mined"):
        make_realistic(model, data["inputs"], data["data_samples"], mined=1000)


def test_both_loaders_deliver_the_same_pixels(tmp_path, mmdet_scope):
    cfg = Config.fromfile(str(ROOT / "configs/lpld/foggy_streets.py"))
    with image_files(6) as (paths, _):
        for path in paths:
            (tmp_path / Path(path).name).symlink_to(path)
        for ours, stock in zip(*loader_pair(cfg, tmp_path), strict=True):
            for view in ("weak", "strong"):
                for a, b in zip(
                    ours["inputs"][view], stock["inputs"][view], strict=True
                ):
                    assert torch.equal(a, b)
            assert not torch.equal(
                ours["inputs"]["weak"][0], ours["inputs"]["strong"][0]
            )


def test_generated_images_stand_in_for_missing_data(monkeypatch, tmp_path):
    monkeypatch.setattr("pld_mmdet.benchmark.images.FOGGY_STREETS", tmp_path)
    with image_files(2) as (paths, origin):
        assert origin == "generated at random"
        assert all(Path(path).is_file() for path in paths)


class TestCommand:
    def test_list_names_every_case(self):
        command = [sys.executable, "tools/benchmark.py", "--list"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, check=True
        )
        assert [line.split()[0] for line in done.stdout.splitlines()] == list(CASES)

    def test_an_unknown_case_is_named(self):
        with pytest.raises(UserError, match="no benchmark case 'speed'"):
            choose_cases(["speed"], quick=False)

    def test_quick_leaves_the_long_case_out_unless_named(self):
        assert "lpld_step_r50" not in choose_cases([], quick=True)
        assert choose_cases(["lpld_step_r50"], quick=True) == ["lpld_step_r50"]

    def test_every_case_is_a_function_of_its_module(self):
        for name in CASES:
            assert callable(function_of(name))

    def test_every_short_case_becomes_a_table_and_a_record(self, tmp_path, mmdet_scope):
        console = Console(width=110, record=True)
        quick = choose_cases([], quick=True)
        assert len(quick) == len(CASES) - 3
        # test_plain.py takes the steps of the others
        steps = [n for n in quick if CASES[n].module.startswith("tests.")]
        names = [n for n in quick if n not in steps[1:]]
        kept = []
        results = run_cases(
            names, 1, quick=True, console=console, keep=lambda r: kept.append(len(r))
        )
        assert len(kept) == len(names)
        assert kept[-1] == len(results)
        for result in results:
            numbers = getattr(result, "paired", None) or result.values.values()
            assert all(math.isfinite(number) for number in numbers)
        results.append(
            Measurement("Memory", "", {"growth": 3.0, "end": 9.0}, "MB", "growth", 2.0)
        )
        print_results(results, console)
        text = console.export_text()
        assert "MeanTeacherHook" in text
        assert "<= 0.7" in text
        out = tmp_path / "made" / "benchmark.json"
        write_results(str(out), results)
        write_results(str(out), results[-1:])  # a repeated case replaces its record
        records = json.loads(out.read_text())
        assert [r["case"] for r in records] == [r.case for r in results]
        assert records[0]["sides"]["LPLD step"]["cpu"]["median"] > 0
        assert records[0]["origin"]["machine"]["cores"] >= 1
        assert records[-1]["met"] is False


def test_progress_is_a_share():
    shares = []
    tick = Plan(advance=shares.append).counter(4)
    for _ in range(5):
        tick()
    assert shares == [0.25, 0.5, 0.75, 1.0, 1.0]

"""Methods outside detection: against the shortest loop of the same mathematics."""

import tempfile

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS
from torch import Tensor, nn
from torch.nn import functional as F

from pld_mmdet.benchmark.images import ROOT
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison, Measurement, run_in_turn
from pld_mmdet.distill.divergences import kl
from pld_mmdet.engine.optim import FiniteOptimWrapper


def _size(model: nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"


def _ours(model: nn.Module, batch: dict):
    wrapper = FiniteOptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    return lambda: model.train_step(batch, wrapper)


def _plain(model: nn.Module, loss):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def _compare(plan: Plan, case: str, setting: str, sides: dict) -> Comparison:
    rounds = plan.choose(15, 3)
    ours, theirs = sides
    tick = plan.counter((rounds + 2) * 2)
    return Comparison(
        case=case,
        setting=setting,
        timings=run_in_turn(sides, rounds, 2, tick),
        subject=ours,
        rivals=(theirs,),
        target=1.15,
    )


def bd_kd_step(plan: Plan) -> list[Comparison]:
    """BD-KD with two convolutional networks on 32 x 32 images."""
    torch.manual_seed(0)
    student, teacher = (
        dict(type="pld_mmdet.SmallConvNet", in_channels=3, widths=widths)
        for widths in ((64, 128, 256), (64, 128, 256, 512))
    )
    model = MODELS.build(dict(type="pld_mmdet.BDKD", student=student, teacher=teacher))
    batch = {"inputs": torch.randn(64, 3, 32, 32), "targets": torch.arange(64) % 10}
    x, y = batch["inputs"], batch["targets"]

    def mathematics() -> Tensor:
        z_s, z_t = model.student(x), model.teacher(x)
        log_s, log_t = z_s.log_softmax(1), z_t.log_softmax(1)
        p_s, p_t = log_s.exp(), log_t.exp()
        sharper = (p_s * log_s).sum(1) > (p_t * log_t).sum(1)
        forward = (p_t.detach() * (log_t.detach() - log_s)).sum(1)
        reverse = (p_s * (log_s - log_t.detach())).sum(1)
        apart = torch.where(sharper, 2 * forward + reverse, forward + 2 * reverse)
        back = (p_s.detach() * (log_s.detach() - log_t)).sum(1)
        ce = F.cross_entropy(z_s, y) + F.cross_entropy(z_t, y)
        return ce + apart.mean() + back.mean()

    sides = {"BDKD": _ours(model, batch), "plain loop": _plain(model, mathematics)}
    setting = f"64 images of 32 x 32, {_size(model)}"
    return [_compare(plan, "BD-KD step / plain torch", setting, sides)]


def taid_step(plan: Plan) -> list[Comparison]:
    """TAID with two GPT-2 of 5000 words."""
    torch.manual_seed(0)
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=2, n_head=4, n_positions=64)
        | dict(n_embd=128, vocab_size=5000),
    )
    teacher = {**gpt2, "config": {**gpt2["config"], "n_layer": 4}}
    model = MODELS.build(
        dict(type="pld_mmdet.TAID", student=gpt2, teacher=teacher, total_steps=1000)
    )
    ids = torch.randint(5000, (8, 64))
    batch = {"input_ids": ids, "labels": ids}

    def mathematics() -> Tensor:
        z_s = model.student(ids, None)[:, :-1]
        with torch.no_grad():
            z_t = model.teacher(ids, None)[:, :-1]
            target = (0.6 * z_s.detach() + 0.4 * z_t).softmax(-1)
        return -(target * z_s.log_softmax(-1)).sum(-1).mean()

    sides = {"TAID": _ours(model, batch), "plain loop": _plain(model, mathematics)}
    setting = f"8 x 64 tokens, 5000 words, {_size(model)}"
    return [_compare(plan, "TAID step / plain torch", setting, sides)]


def runner_cost(plan: Plan) -> list[Measurement]:
    """What the Runner with its hooks adds to a step, in milliseconds."""
    cfg = Config.fromfile(str(ROOT / "configs/bd_kd/plain.py"))
    steps = 200 if not plan.quick else 50
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.log_level = "ERROR"
    rounds = plan.choose(7, 2)
    tick = plan.counter((rounds + 1) * 2)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.default_hooks.checkpoint.update(interval=10**9, save_last=False)

        def build():
            cfg.experiment_name = f"runner_cost_{len(made)}"
            made.append(RUNNERS.build(cfg))
            return made[-1]

        made: list = []
        runner = build()
        model, wrapper = runner.model, runner.build_optim_wrapper(cfg.optim_wrapper)
        loader = runner.build_dataloader(cfg.train_dataloader, seed=0)

        def bare() -> None:
            for _, batch in zip(range(steps), loader, strict=False):
                model.train_step(batch, wrapper)

        sides = {"Runner": lambda: build().train(), "bare loop": bare}
        timings = run_in_turn(sides, rounds, 1, tick)
    each = {
        name: 1000 * timing.median("cpu") / steps for name, timing in timings.items()
    }
    values = {**each, "the Runner's share": each["Runner"] - each["bare loop"]}
    return [
        Measurement(
            case="Runner's cost per step",
            setting=f"{steps} steps of a plain classifier on digits, all our hooks",
            values=values,
            unit="ms",
            notes=[
                "Both sides load the same batches; building is spread over the run."
            ],
        )
    ]


def divergence(plan: Plan) -> list[Comparison | Measurement]:
    """KL over a large vocabulary against torch's functions: time and peak memory."""
    torch.manual_seed(0)
    rows, words = (512, 50_000) if not plan.quick else (64, 50_000)
    teacher, student = torch.randn(2, rows, words)
    student.requires_grad_()

    def torch_kl() -> None:
        F.kl_div(
            student.log_softmax(-1),
            teacher.log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        ).backward()

    sides = {"distill.kl": lambda: kl(teacher, student).backward(), "torch": torch_kl}
    found = _compare(
        plan, "KL / F.kl_div", f"{rows} x {words}, forward and backward", sides
    )
    size = student.numel() * student.element_size()
    peaks = {name: _peak_bytes(side) / size for name, side in sides.items()}
    return [
        found,
        Measurement(
            case="KL's temporaries",
            setting=f"{rows} x {words}, in sizes of the logits, forward and backward",
            values=peaks,
            unit="N x V",
            limited="distill.kl",
            target=3.0,
            notes=["The gradient that is kept counts as one."],
        ),
    ]


def _peak_bytes(function) -> int:
    """Most memory that torch held at once, counted by its profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        function()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak

"""What methods outside detection share: the Runner's cost, a divergence, sampling."""

import tempfile
from dataclasses import replace

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from torch.nn import functional as F

from pld_mmdet.benchmark.images import ROOT
from pld_mmdet.benchmark.pairs import compare
from pld_mmdet.benchmark.plan import Plan
from pld_mmdet.benchmark.timing import Comparison, Measurement, run_in_turn
from pld_mmdet.distill.divergences import kl
from pld_mmdet.language.decoding.sampling import sample
from pld_mmdet.registry import MODELS


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
    found = compare(
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


def sampling(plan: Plan) -> list[Comparison]:
    """Text that is sampled against transformers' generate, as many tokens."""
    torch.manual_seed(0)
    rows, new = (32, 64) if not plan.quick else (8, 16)
    config = dict(model_type="gpt2", n_layer=4, n_head=4, n_embd=256, vocab_size=5000)
    network = MODELS.build(
        dict(type="pld_mmdet.CausalTransformer", config=config | dict(n_positions=128))
    ).eval()
    prompts = torch.randint(5000, (rows, 32))
    mask = torch.ones_like(prompts)
    how = dict(temperature=0.7, top_p=0.9)

    def generate() -> None:
        network.model.generate(
            prompts,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=new,
            min_new_tokens=new,
            pad_token_id=0,
            **how,
        )

    sides = {
        "sample": lambda: sample(network, prompts, new, seed=(1,), mask=mask, **how),
        "generate": generate,
    }
    setting = f"GPT-2 of 4 x 256, 5000 words, {rows} x (32 + {new}) tokens"
    found = compare(plan, "sampling / transformers' generate", setting, sides)
    return [replace(found, target=1.2)]


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

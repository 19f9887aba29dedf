"""TAID: hand-worked numbers, limits, gradients, the runs."""

import json
import math

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pld_mmdet.engine.run.progress import Progress
from pld_mmdet.errors import UserError
from pld_mmdet.language.data.chat import ChatText
from pld_mmdet.language.learners.causal import CausalDistillation
from pld_mmdet.language.taid import TAID, AdaptiveTime, entropy
from pld_mmdet.registry import DATASETS, MODELS
from tests.toy_run import assert_resume_is_exact, toy_config, train

Z_S = torch.tensor([2.0, 0.0, -1.0])
Z_T = torch.tensor([0.0, 1.0, 3.0])


@MODELS.register_module(force=True)
class FixedLogits(nn.Module):
    """Answers [1, 2, 3] logits: position 0 as given, position 1 is not counted."""

    def __init__(self, logits):
        super().__init__()
        row = torch.as_tensor(logits, dtype=torch.float32)
        self.logits = nn.Parameter(torch.stack([row, torch.zeros(3)])[None])

    def forward(self, input_ids, attention_mask=None):
        return self.logits


def fixed(student=Z_S, **options) -> TAID:
    networks = [
        dict(type="pld_mmdet.FixedLogits", logits=z.tolist()) for z in (student, Z_T)
    ]
    model = TAID(*networks, **options)
    model.progress = Progress(steps=1000)
    return model


BATCH = dict(input_ids=torch.tensor([[0, 1]]), labels=torch.tensor([[-100, 1]]))


@pytest.mark.parametrize(
    ("t", "ce", "kl"),
    [(0.4, 1.443577, 0.406664), (1.0, 2.929621, 2.405354)],
)
def test_loss_by_hand(t, ce, kl):
    assert fixed(t0=t).loss(**BATCH)["loss_taid"].item() == pytest.approx(ce, abs=2e-6)
    value = fixed(t0=t, objective="kl").loss(**BATCH)["loss_taid"]
    assert value.item() == pytest.approx(kl, abs=2e-6)


def test_gradient_by_hand_and_equal_for_both_objectives():
    expected = torch.tensor([0.343329, -0.110678, -0.232651])
    gradients = []
    for objective in ("ce", "kl"):
        model = fixed(objective=objective)
        model.loss(**BATCH)["loss_taid"].backward()
        gradients.append(model.student.logits.grad[0, 0])
        assert model.teacher.network.logits.grad is None
        # nothing at the position whose next token is not there
        assert model.student.logits.grad[0, 1].abs().max() == 0
    torch.testing.assert_close(gradients[0], expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-7, rtol=0)


def test_at_t0_zero_nothing_is_to_be_learnt():
    model = fixed(t0=0.0, objective="kl")
    loss = model.loss(**BATCH)["loss_taid"]
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert model.student.logits.grad.abs().max() <= 1e-7


def test_at_t1_one_it_is_forward_kl():
    taid = fixed(t0=1.0, objective="kl")
    plain = CausalDistillation(
        dict(type="pld_mmdet.FixedLogits", logits=Z_S.tolist()),
        dict(type="pld_mmdet.FixedLogits", logits=Z_T.tolist()),
    )
    assert taid.loss(**BATCH)["loss_taid"].item() == pytest.approx(
        plain.loss(**BATCH)["loss_kd"].item(), abs=1e-6
    )


def test_entropy_in_blocks_is_the_entropy(monkeypatch):
    monkeypatch.setattr("pld_mmdet.distill.divergences.BLOCK", 20)
    logits = torch.randn(3, 4, 9) * 4
    p = logits.softmax(-1)
    expected = -(p * p.log()).sum(-1)
    torch.testing.assert_close(entropy(logits), expected, atol=1e-6, rtol=1e-5)


def moved(step: int, total: int) -> AdaptiveTime:
    time = AdaptiveTime(0.4, 1.0, alpha=5e-4, beta=0.99)
    time.previous.fill_(2.0)
    time.step.fill_(step)
    time.update(torch.tensor(1.5), total)
    return time


@pytest.mark.parametrize(
    ("step", "t"), [(0, 0.4001501875), (1, 0.4006), (500, 0.7), (1000, 1.0)]
)
def test_time_by_hand(step, t):
    time = moved(step, 1000)
    assert time.momentum.item() == pytest.approx(0.0025, abs=1e-8)
    assert time.t.item() == pytest.approx(t, abs=1e-6)


def test_the_fall_is_relative_to_the_loss_before():
    """From 2.9 to 0.8: 2.1 / 2.9 = 0.724138; t = 0.4 + 0.5 * 0.673518 * 0.6."""
    time = AdaptiveTime(0.4, 1.0, alpha=0.5, beta=0.0)
    time.previous.fill_(2.9)
    time.update(torch.tensor(0.8), 1000)
    assert time.momentum.item() == pytest.approx(0.724138, abs=1e-6)
    assert time.t.item() == pytest.approx(0.602055, abs=1e-6)


@pytest.mark.parametrize("ends", [(-0.1, 1.0), (0.7, 0.6), (0.4, 1.1)])
def test_times_outside_are_refused(ends):
    with pytest.raises(UserError, match="no way from student to teacher"):
        AdaptiveTime(*ends, alpha=0.5, beta=0.9)


def test_first_loss_leaves_t():
    time = AdaptiveTime(0.4, 1.0, alpha=0.5, beta=0.99)
    time.update(torch.tensor(2.0), 10)
    assert time.t.item() == pytest.approx(0.4)
    assert time.momentum.item() == 0


def test_time_never_falls_and_never_passes_t1():
    time = AdaptiveTime(0.2, 0.9, alpha=0.3, beta=0.5)
    losses = [3.0, 1.0, 5.0, math.nan, 0.5, math.inf, 2.0, 1e-9, 4.0, 1.0]
    before = 0.0
    for loss in losses:
        time.update(torch.tensor(loss), total=len(losses))
        assert before <= time.t.item() <= 0.9 + 1e-6
        assert math.isfinite(time.momentum.item())
        before = time.t.item()
    assert time.step.item() == len(losses)


def test_linear_time_ignores_the_loss():
    time = AdaptiveTime(0.4, 1.0, alpha=0.5, beta=0.9, adaptive=False)
    seen = []
    for loss in (9.0, 1.0, 0.1):
        time.update(torch.tensor(loss), total=2)
        seen.append(round(time.t.item(), 6))
    assert seen == [0.4, 0.7, 1.0]


def test_accumulated_losses_move_t_once():
    model = fixed()
    model.progress = Progress(steps=5, accumulation=2)
    model.loss(**BATCH)
    assert model.time.step.item() == 0
    model.loss(**BATCH)
    assert model.time.step.item() == 1
    assert model.time.previous.item() == pytest.approx(1.443577, abs=2e-6)
    assert model.pending.tolist() == [0, 0]


def test_ignored_tokens_and_padding_change_nothing():
    torch.manual_seed(0)
    sizes = dict(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    net = dict(
        type="pld_mmdet.CausalTransformer", config=dict(model_type="gpt2", **sizes)
    )
    model = TAID(net, net).eval()
    model.progress = Progress(steps=10)
    ids = torch.randint(9, (2, 6))
    labels = ids.clone()
    labels[:, :2] = -100
    plain = model.loss(ids, labels)["loss_taid"]
    padded = F.pad(ids, (0, 2)), F.pad(labels, (0, 2), value=-100)
    mask = F.pad(torch.ones_like(ids), (0, 2))
    model.time.t.fill_(0.4)
    longer = model.loss(*padded, attention_mask=mask)["loss_taid"]
    torch.testing.assert_close(plain, longer)
    model.time.t.fill_(0.4)
    nothing = model.loss(ids, torch.full_like(ids, -100))["loss_taid"]
    nothing.backward()
    assert nothing.item() == 0
    assert all(p.grad.abs().max() == 0 for p in model.student.parameters())


def test_distil_ratio_mixes_in_the_next_token_loss():
    losses = fixed(distil_ratio=0.75).loss(**BATCH)
    assert losses["loss_taid"].item() == pytest.approx(0.75 * 1.443577, abs=2e-6)
    nll = F.cross_entropy(Z_S[None], torch.tensor([1])).item()
    assert losses["loss_lm"].item() == pytest.approx(0.25 * nll, abs=1e-6)


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match="objective='rkl' is not known"):
        fixed(objective="rkl")
    with pytest.raises(UserError, match=r"t0=0\.9 and t1=0\.5"):
        fixed(t0=0.9, t1=0.5)
    with pytest.raises(UserError, match="no divergence 'tv'"):
        CausalDistillation(
            *[dict(type="pld_mmdet.FixedLogits", logits=[0.0] * 3)] * 2, "tv"
        )


def test_toy_run_resumes_exactly_and_leaves_the_teacher(tmp_path):
    runner, last = assert_resume_is_exact(
        "configs/taid/toy.py", tmp_path, 2, "train_cfg.max_iters=4", "model.alpha=0.9"
    )
    model = runner.model
    source = MODELS.build(dict(type="pld_mmdet.MarkovSource")).logits
    assert torch.equal(model.teacher.network.logits, source)
    assert model.time.step.item() == 4
    assert model.time.t.item() > 0.4 + 0.6 * 3 / 4  # faster than linear
    fresh = MODELS.build(runner.cfg.model)
    fresh.load_state_dict(last["state_dict"], strict=True)
    assert fresh.time.t.item() == model.time.t.item()


@pytest.mark.parametrize("row", ["plain", "kl", "reverse_kl", "linear"])
def test_rows_of_the_table_train(row, tmp_path):
    short = toy_config("configs/taid/toy.py", tmp_path).walk
    metrics = train(
        toy_config(f"configs/taid/{row}.py", tmp_path, *short, walk=False)
    ).val_loop.run()
    assert metrics["forward_kl"] > 0
    assert metrics["reverse_kl"] > 0
    assert metrics["nll"] == pytest.approx(math.log(32), rel=0.1)


def test_paper_config_trains_from_weights_on_disk(tmp_path):
    sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
    sizes |= dict(num_hidden_layers=1, num_key_value_heads=2, pad_token_id=None)
    folders = {}
    for name, kind, vocab in (("student", "llama", 40), ("teacher", "phi3", 48)):
        folders[name] = str(tmp_path / name)
        config = AutoConfig.for_model(kind, vocab_size=vocab, **sizes)
        AutoModelForCausalLM.from_config(config).save_pretrained(folders[name])
    words = {"[PAD]": 0, "</s>": 1, "hello": 2, "there": 3, "you": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = dict(pad_token="[PAD]", eos_token="</s>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    tokenizer.save_pretrained(folders["teacher"])
    talk = [dict(role=r, content=c) for r, c in (("user", "hello"), ("bot", "you"))]
    for part in ("train", "test"):
        lines = f"{json.dumps(dict(messages=talk))}\n" * 4
        (tmp_path / f"{part}_sft.jsonl").write_text(lines)
    options = [f"model.{k}.pretrained={v}" for k, v in folders.items()]
    options += [f"model.{k}.vocab_size=48" for k in folders]
    options += [
        f"{part}_dataloader.{key}"
        for part in ("train", "val")
        for key in (
            f"dataset.data_root={tmp_path}",
            f"dataset.tokenizer={folders['teacher']}",
            "num_workers=0",
            "batch_size=2",
        )
    ]
    cfg = toy_config("configs/taid/paper.py", tmp_path, *options)
    cfg.train_cfg.max_epochs = 1
    model = train(cfg).model
    assert model.time.step.item() == 2
    assert model.student.model.get_input_embeddings().weight.shape == (48, 16)
    # prompt, answer, end of text; the rest is padding
    sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
    assert sample["input_ids"][:4].tolist() == [2, 4, 1, 0]
    assert sample["labels"][:4].tolist() == [2, 4, 1, -100]
    assert sample["attention_mask"].sum() == 3


def test_long_conversations_are_dropped_and_the_template_ends_the_answer(tmp_path):
    """Three words and two marks; the end of turn is part of what is learnt."""
    words = {"[PAD]": 0, "</s>": 1, "one": 2, "two": 3, "Q": 4, "A": 5, "end": 6}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'Q ' if m.role == 'user' else 'A ' }}"
        "{{ m.content }} end {% endfor %}{{ 'A ' if add_generation_prompt }}"
    )
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    def talk(question, answer):
        roles = ("user", question), ("bot", answer)
        return json.dumps({"messages": [dict(role=r, content=c) for r, c in roles]})

    lines = [talk("one", "two"), talk("one one one", "two"), talk("one", "two two two")]
    lines += [talk("one one", "two two")]
    (tmp_path / "talks.jsonl").write_text("\n".join(lines))
    options = dict(
        ann_file=str(tmp_path / "talks.jsonl"),
        tokenizer=str(tmp_path / "tokenizer"),
        prompt_length=5,  # Q one one end A
        answer_length=3,  # two two end
    )
    data = ChatText(**options)
    assert [c[0]["content"] for c in data.conversations] == ["one", "one one"]
    assert data[0]["input_ids"].tolist() == [4, 2, 6, 5, 3, 6, 0, 0]
    assert data[0]["labels"].tolist() == [4, 2, 6, 5, 3, 6, -100, -100]
    assert len(ChatText(**options, size=1)) == 1
    cut = ChatText(**options, too_long="cut")
    assert len(cut) == 4
    assert cut[1]["input_ids"].tolist() == [2, 2, 2, 6, 5, 3, 6, 0][-8:]
    assert cut[2]["input_ids"].tolist() == [4, 2, 6, 5, 3, 3, 3, 0]
    with pytest.raises(UserError, match="too_long"):
        ChatText(**options, too_long="keep")


def test_weights_that_are_missing_or_do_not_fit_are_refused(tmp_path):
    network = dict(type="pld_mmdet.CausalTransformer")
    with pytest.raises(UserError, match=r"cannot be loaded"):
        MODELS.build(dict(**network, pretrained=str(tmp_path / "nothing")))
    with pytest.raises(UserError, match="either from `config` or from"):
        MODELS.build(network)
    with pytest.raises(UserError, match="no model type 'gpt17'"):
        MODELS.build(dict(**network, config=dict(model_type="gpt17")))
    config = AutoConfig.for_model("gpt2", vocab_size=9, n_embd=8, n_layer=1, n_head=2)
    model = AutoModelForCausalLM.from_config(config)
    weights = model.state_dict()
    weights.pop("transformer.h.0.ln_1.weight")
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(UserError, match=r"do not fit GPT2LMHeadModel: 1 missing"):
        MODELS.build(dict(**network, pretrained=str(tmp_path)))

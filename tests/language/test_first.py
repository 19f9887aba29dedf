"""FIRST: hand-worked numbers, what the choice of c sees, gradients, text."""

import json

import pytest
import torch
from mmengine.config import Config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.kept_answers import KeptAnswers, write_answers
from pld_mmdet.language.first import (
    FIRST,
    label_smoothed,
    temperature_scaled,
    top_k_kl,
)
from pld_mmdet.registry import DATASETS
from tests.toy_run import enter, toy_config, train

T = torch.tensor([0.6, 0.2, 0.1, 0.05, 0.01])
S = torch.tensor([0.3, 0.3, 0.2, 0.1, 0.05])
SCALED = [0.570687, 0.150431, 0.107789, 0.091241, 0.079852]
SMOOTH = [0.544998, 0.228333, 0.124167, 0.072084, 0.030418]
MLP = dict(type="pld_mmdet.MLP", sizes=(4, 6))


def close(found, expected, at=3e-6):
    torch.testing.assert_close(found, torch.tensor(expected), atol=at, rtol=0)


def test_numbers_by_hand():
    close(top_k_kl(T, S), 0.213202)
    close(temperature_scaled(T, 0.3), SCALED)
    close(top_k_kl(temperature_scaled(T, 0.3), S), 0.174242)
    close(label_smoothed(T, 0.08), SMOOTH)
    close(top_k_kl(label_smoothed(T, 0.08), S), 0.113839)


def test_second_numbers_by_hand():
    t = torch.tensor([0.80, 0.10, 0.05, 0.02, 0.01])
    s = torch.tensor([0.50, 0.20, 0.10, 0.05, 0.05])
    close(top_k_kl(t, s), 0.157302)
    smooth = label_smoothed(t, 0.1)
    close(smooth, [0.716327, 0.127041, 0.076020, 0.045408, 0.035204], 4e-6)
    close(top_k_kl(smooth, s), 0.056958)
    close(temperature_scaled(t, 0.2)[0], 0.914736)
    # the code softens both
    both = temperature_scaled(t, 1.0), temperature_scaled(s, 1.0)
    close(top_k_kl(*both), 0.014058)


def test_the_mean_is_over_all_rows_and_nothing_costs_nothing():
    two = top_k_kl(torch.stack([T, S])[:, None], torch.stack([S, S])[:, None])
    close(two, 0.213202 / 2)
    none = torch.zeros(0, 5, requires_grad=True)
    loss = top_k_kl(torch.zeros(0, 5), none)
    loss.backward()
    assert loss.item() == 0
    assert none.grad.shape == (0, 5)
    assert label_smoothed(torch.zeros(0, 5), 0.1).shape == (0, 5)


def test_the_largest_gives_wherever_it_stands():
    turned = label_smoothed(T.flip(0), 0.08)
    close(turned, SMOOTH[::-1])


def test_the_teacher_gets_no_gradient_and_other_words_hardly_any():
    t = T.clone().requires_grad_()
    z = torch.tensor([1.0, 0.2, -0.5, 0.7, 0.1, 2.0, -1.0], requires_grad=True)
    top_k_kl(t, z.softmax(-1)[:5]).backward()
    assert t.grad is None
    assert z.grad[:5].abs().max() > 0.01
    assert z.grad[5:].abs().max() < 1e-5  # the sum divides them out


class Logits(nn.Module):
    """The input is the answer."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("right", [0.6, 0.9])
def test_c_is_the_one_whose_confidence_is_the_accuracy(right):
    """A teacher that is always equally sure: its best c follows how often it errs."""
    model = FIRST(MLP, MLP, grid=[0.1, 0.2, 0.3, 0.4])
    model.teacher = Logits()
    logits = torch.tensor([0.7, 0.1, 0.08, 0.06, 0.04, 0.02]).log().expand(100, 6)
    targets = (torch.arange(100) >= 100 * right).long()
    model.start_stage("calibrate", [dict(inputs=logits, targets=targets)], None)
    confidence = {c: ((logits[0].exp()[:5] / c).softmax(-1)[0]) for c in model.grid}
    best = min(model.grid, key=lambda c: abs(confidence[c] - right))
    assert model.amount.item() == pytest.approx(best)
    assert len({round(v.item(), 2) for v in confidence.values()}) == 4
    assert best == {0.6: 0.4, 0.9: 0.2}[right]


def test_stages_train_one_network_and_need_a_choice():
    model = FIRST(MLP, MLP)
    batch = dict(inputs=torch.randn(5, 4), targets=torch.arange(5))
    enter(model, "teacher")
    model.loss(**batch)["loss_teacher"].backward()
    assert all(p.grad is None for p in model.student.parameters())
    assert all(p.grad is not None for p in model.teacher.parameters())
    enter(model, "student")
    with pytest.raises(UserError, match="nobody has chosen"):
        model.loss(**batch)
    model.amount.fill_(0.3)
    model.train()
    model.loss(**batch)["loss_first"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert not model.teacher.training
    assert model.student.training
    with pytest.raises(UserError, match="calibrate has no work_dataloader"):
        model.start_stage("calibrate", None, None)
    empty = dict(inputs=torch.zeros(0, 4), targets=torch.zeros(0).long())
    with pytest.raises(UserError, match="no answer to judge"):
        model.start_stage("calibrate", [empty], None)


def test_the_sum_is_over_positions_and_the_mean_over_sequences():
    gpt2 = dict(
        type="pld_mmdet.CausalTransformer",
        config=dict(model_type="gpt2", n_layer=1, n_head=2, n_positions=8)
        | dict(n_embd=8, vocab_size=9, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0),
    )
    torch.manual_seed(0)
    model = FIRST(gpt2, gpt2, trust="none")
    ids = torch.randint(9, (2, 6))
    labels = ids.clone()
    labels[:, :3] = -100
    loss = model.loss(input_ids=ids, labels=labels)["loss_first"]
    p, top = model.teacher(ids)[:, 2:5].softmax(-1).topk(5)
    s = model.student(ids)[:, 2:5].softmax(-1).gather(-1, top)
    torch.testing.assert_close(loss, 3 * top_k_kl(p, s))
    nothing = model.loss(input_ids=ids, labels=torch.full_like(ids, -100))
    assert nothing["loss_first"].item() == 0


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match=r"c=0.0 is not positive"):
        FIRST(MLP, MLP, grid=[0.3, 0.0])
    with pytest.raises(UserError, match=r"0\.2 cannot be taken from 5"):
        FIRST(MLP, MLP, trust="smoothing", amount=0.2)
    with pytest.raises(UserError, match="trust='hope' is not known"):
        FIRST(MLP, MLP, trust="hope")
    with pytest.raises(UserError, match="top_k=1"):
        FIRST(MLP, MLP, top_k=1)
    with pytest.raises(UserError, match="shapes differ"):
        top_k_kl(T, S[:4])


def test_every_row_trains(tmp_path):
    rows = Config.fromfile("configs/first/toy.py").experiment.rows
    short = ["train_cfg.stages.0.max_iters=1", "train_cfg.stages.2.max_iters=1"]
    for row in rows[1:4]:
        options = [one.replace("{seed}", "3") for one in row.options]
        path = "configs/first/toy.py"
        model = train(toy_config(path, tmp_path / row.name, *options, *short)).model
        assert model.amount.isnan() == (row.name == "top_5")


def test_paper_config_trains_from_a_folder_and_a_jsonl_file(tmp_path):
    sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
    sizes |= dict(num_hidden_layers=1, num_key_value_heads=2, pad_token_id=None)
    for name in ("student", "teacher"):
        config = AutoConfig.for_model("qwen2", vocab_size=40, **sizes)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
    words = {"[PAD]": 0, "</s>": 1, "hello": 2, "there": 3, "you": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="</s>"
    )
    tokenizer.save_pretrained(tmp_path / "words")
    talk = [dict(role=r, content=c) for r, c in (("user", "hello"), ("bot", "you"))]
    for part in ("train", "val"):
        lines = f"{json.dumps(dict(messages=talk))}\n" * 8
        (tmp_path / f"{part}.jsonl").write_text(lines)
    cfg = toy_config("configs/first/paper.py", tmp_path / "run")
    for part in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
        cfg.train_cfg.stages[0].work_dataloader,
        cfg.train_cfg.stages[1].work_dataloader,
    ):
        part.update(num_workers=0, batch_size=4, persistent_workers=False)
        part.dataset.update(data_root=str(tmp_path), tokenizer=f"{tmp_path}/words")
    for name in ("student", "teacher"):
        cfg.model[name].update(pretrained=str(tmp_path / name), vocab_size=40)
    cfg.train_cfg.stages[2].max_iters = 2
    cfg.model.answers = str(tmp_path / "answers.safetensors")
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = 1
    model = train(cfg).model
    assert model.amount.item() in [pytest.approx(c) for c in model.grid]
    sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
    assert sample["input_ids"][:4].tolist() == [2, 4, 1, 0]
    assert sample["labels"][:4].tolist() == [-100, 4, 1, -100]
    kept = KeptAnswers(cfg.model.answers)
    assert len(kept) == 8
    assert kept.of([3])[1].shape == (2, 5)  # an answer and its end


GPT2 = dict(
    type="pld_mmdet.CausalTransformer",
    config=dict(model_type="gpt2", n_layer=1, n_head=2, n_positions=8, n_embd=8)
    | dict(vocab_size=9, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0)
    | dict(initializer_range=0.5),
)


def test_kept_answers_give_the_same_loss(tmp_path):
    torch.manual_seed(0)
    path = str(tmp_path / "kept/answers.safetensors")
    model = FIRST(GPT2, GPT2, trust="none", answers=path)
    ids = torch.randint(9, (3, 6))
    labels = ids.clone()
    labels[0, :4] = labels[1] = labels[2, :1] = -100  # 2, 0 and 5 answers

    def batch(*rows):
        rows = torch.tensor(rows)
        return dict(input_ids=ids[rows], labels=labels[rows], index=rows)

    class Loader(list):
        dataset = range(3)

    loader = Loader([batch(0, 1), batch(2)])
    with pytest.raises(UserError, match="answers has no work_dataloader"):
        model.start_stage("answers", None, None)
    model.start_stage("answers", loader, None)
    kept = model.loss(**batch(2, 1, 0))["loss_first"]
    for p in model.teacher.parameters():
        p.data.zero_()  # it is not asked again
    assert model.loss(**batch(2, 1, 0))["loss_first"] == kept
    torch.manual_seed(0)
    asked = FIRST(GPT2, GPT2, trust="none")
    now = asked.loss(**batch(2, 1, 0))["loss_first"]
    torch.testing.assert_close(kept, now, atol=1e-3, rtol=0)  # half precision
    assert now > 0.1
    with pytest.raises(UserError, match="which samples a batch has"):
        model.loss(input_ids=ids, labels=labels)
    with pytest.raises(UserError, match="of another teacher"):
        model.start_stage("answers", loader, None)
    asked.answers = path
    asked.start_stage("answers", loader, None)  # the same teacher: nothing to do
    data = bytearray((tmp_path / "kept/answers.safetensors").read_bytes())
    data[-70] ^= 4
    (tmp_path / "kept/answers.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="checksum differs"):
        KeptAnswers(path)
    with pytest.raises(UserError, match="cannot be read"):
        KeptAnswers(tmp_path / "none")
    with pytest.raises(UserError, match="of 1 samples"):
        write_answers(path, [(1, torch.ones(1, 5), torch.ones(1, 5))], "")

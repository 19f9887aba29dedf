"""LLKD: thresholds by hand, what is kept, the loss, budgets, a user's files."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pld_mmdet.distill.losses import entropy
from pld_mmdet.errors import UserError
from pld_mmdet.language.llkd import LLKD, class_thresholds
from pld_mmdet.language.networks.label_words import LabelWordClassifier
from tests.toy_run import enter, toy_config, train

MLP = dict(type="pld_mmdet.MLP", sizes=(4, 3))


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)


def test_numbers_by_hand():
    tau = class_thresholds(torch.tensor(0.7), torch.tensor([0.9, 0.6, 0.75]))
    close(tau, [0.7, 0.466667, 0.583333])
    close(class_thresholds(torch.tensor(0.2), torch.zeros(2)), [0.2, 0.2])
    close(
        entropy(torch.tensor([0.5, 0.3, 0.2]).log(), normalise=True),
        0.937231,
    )
    model = LLKD(MLP, MLP, samples=1, num_classes=3)
    close(model.tau_t.thresholds, [1 / 3])
    close(model.tau_s.thresholds, [0.0])
    model.tau_t.thresholds.fill_(0.1)
    c = torch.tensor([0.9, 0.7])
    model.select(c, torch.tensor([0.5, 0.1]), torch.tensor([2, 2]))
    close(model.tau_t.thresholds, [0.17])
    close(model.mean_t.thresholds, [1 / 3, 1 / 3, 0.9 / 3 + 0.08])
    close(model.mean_s.thresholds, [0.0, 0.0, 0.03])


def ready(**more):
    """Thresholds at rest: tau_T = (.7, .35, .35), tau_S = (.4, .2, .1)."""
    model = LLKD(MLP, MLP, samples=4, num_classes=3, keep=1.0, **more)
    model.tau_t.thresholds.fill_(0.7)
    model.mean_t.thresholds.copy_(torch.tensor([0.8, 0.4, 0.4]))
    model.tau_s.thresholds.fill_(0.4)
    model.mean_s.thresholds.copy_(torch.tensor([0.6, 0.3, 0.15]))
    return model


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("both", [True, False, False, True, False, True]),
        ("teacher", [True, False, True, True, True, True]),
        ("student", [True, True, False, True, False, True]),
        ("all", [True] * 6),
    ],
)
def test_what_is_kept(rule, kept):
    c = torch.tensor([0.7, 0.69, 0.9, 0.35, 0.4, 0.4])
    u = torch.tensor([0.4, 0.9, 0.39, 0.2, 0.05, 0.15])
    y = torch.tensor([0, 0, 0, 1, 2, 2])
    assert ready(rule=rule).select(c, u, y).tolist() == kept


def test_a_fixed_confidence_is_asked_of_all_classes():
    model = ready(rule="teacher", confidence=0.9)
    c = torch.tensor([0.9, 0.89, 0.91])
    assert model.select(c, c, torch.tensor([0, 1, 2])).tolist() == [True, False, True]


def test_the_loss_is_the_weighted_mean_of_what_is_kept():
    torch.manual_seed(0)
    model = ready()
    model.answers.copy_(
        torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.6, 0.4, 0]])
    )
    x = torch.randn(4, 4)
    losses = model.loss(inputs=x, index=torch.arange(4))
    z = model.student(x)
    u = entropy(z, normalise=True)  # all are uncertain here; the last is not sure
    assert (u > 0.4).all()
    w = (torch.tensor([0.8, 0.5, 0.6]) * u[:3]).detach()
    ce = F.cross_entropy(z[:3], torch.tensor([0, 1, 2]), reduction="none")
    torch.testing.assert_close(losses["loss_student"], (w / w.mean() * ce).mean())
    assert losses["visits"] == 3
    losses["loss_student"].backward()
    weight = next(model.student.parameters())
    (wanted,) = torch.autograd.grad((w / w.mean() * ce).mean(), weight)
    torch.testing.assert_close(weight.grad, wanted)  # w is a constant
    assert all(p.grad is None for p in model.teacher.parameters())
    plain = ready(rule="all", weight="none")
    plain.answers.copy_(model.answers)
    loss = plain.loss(inputs=x, index=torch.arange(4))["loss_student"]
    targets = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(loss, F.cross_entropy(plain.student(x), targets))


def test_nothing_kept_costs_nothing():
    model = ready(confidence=1.1)
    model.answers.copy_(torch.full((4, 3), 1 / 3))
    loss = model.loss(inputs=torch.randn(4, 4), index=torch.arange(4))["loss_student"]
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in model.student.parameters())


def test_budgets_keep_the_student_of_so_many_visits():
    torch.manual_seed(0)
    model = LLKD(
        MLP, MLP, 4, 3, rule="all", weight="none", budgets=(8, 4), predict_on="at_4"
    )
    model.answers.copy_(torch.full((4, 3), 1 / 3))
    optimizer = torch.optim.SGD(model.student.parameters(), lr=0.5)
    x, seen = torch.randn(4, 4), []
    for _ in range(4):
        seen.append({k: v.clone() for k, v in model.student.state_dict().items()})
        loss = model.loss(inputs=x, index=torch.arange(4))["loss_student"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.visits == 8  # the last two steps learn nothing
    for name, number in (("at_4", 1), ("at_8", 2)):
        state = model.copies[name].network.state_dict()
        assert all(torch.equal(state[k], v) for k, v in seen[number].items())
    assert all(torch.equal(seen[2][k], seen[3][k]) for k in seen[2])
    torch.testing.assert_close(model.outputs(inputs=x), model.copies["at_4"](x))
    model.predict_on = "budgets"
    right = model.predict(inputs=x, targets=torch.tensor([2, 0, 1, 1]))[0]
    for name, network in (("at_8", model.copies["at_8"]), ("teacher", model.teacher)):
        expected = network(x).argmax(1) == torch.tensor([2, 0, 1, 1])
        assert right[name].bool().tolist() == expected.tolist()


def test_stages_and_sentences():
    model = LLKD(MLP, MLP, samples=2, num_classes=3)
    batch = dict(inputs=torch.randn(2, 4), index=torch.arange(2))
    with pytest.raises(UserError, match="have no answer of the teacher"):
        model.loss(**batch)
    with pytest.raises(UserError, match="no work_dataloader"):
        model.start_stage("student", None, None)
    model.start_stage("student", [batch], None)
    torch.testing.assert_close(model.answers, model.teacher(batch["inputs"]).softmax(1))
    enter(model, "teacher")
    model.train()
    model.loss(**batch, targets=torch.tensor([0, 2]))["loss_teacher"].backward()
    assert all(p.grad is None for p in model.student.parameters())
    assert model.teacher.training
    with pytest.raises(UserError, match="rule='hope'"):
        LLKD(MLP, MLP, 2, 3, rule="hope")
    with pytest.raises(UserError, match="predict_on='at_7'"):
        LLKD(MLP, MLP, 2, 3, predict_on="at_7", budgets=(8,))


def test_paper_config_trains_from_folders_and_jsonl(tmp_path):
    words = ["<unk>", "<pad>", "</s>", "a", "b", "Background", "Objective", "Methods"]
    words = {w: i for i, w in enumerate([*words, "Results", "Conclusions"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = dict(unk_token="<unk>", pad_token="<pad>", eos_token="</s>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        tmp_path / "words"
    )
    sizes = dict(vocab_size=10, hidden_size=8, intermediate_size=8, pad_token_id=1)
    sizes |= dict(num_hidden_layers=1, num_attention_heads=2)
    for kind, auto in (
        ("llama", AutoModelForCausalLM),
        ("roberta", AutoModelForSequenceClassification),
    ):
        more = dict(num_labels=5, max_position_embeddings=24)
        config = AutoConfig.for_model(kind, **sizes, **more)
        auto.from_config(config).save_pretrained(tmp_path / kind)
    for part in ("train", "val", "test"):
        label = {} if part == "train" else {"label": 3}
        lines = [json.dumps(dict(text=text, **label)) for text in ("a b", "b", "a")]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    (tmp_path / "shown.txt").write_text("a Its part: Methods\n")
    cfg = toy_config("configs/llkd/paper.py", tmp_path / "run", walk=False)
    stage = cfg.train_cfg.stages[0]
    stage.max_iters = 2
    for part in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.test_dataloader,
        stage.work_dataloader,
    ):
        part.update(num_workers=0, batch_size=2, persistent_workers=False)
        part.dataset.update(data_root=str(tmp_path), tokenizer=f"{tmp_path}/words")
        part.dataset.max_length = 8
    teacher = cfg.model.teacher
    teacher.network.pretrained = str(tmp_path / "llama")
    teacher.update(
        tokenizer=f"{tmp_path}/words", demonstrations=f"{tmp_path}/shown.txt"
    )
    cfg.model.student.pretrained = str(tmp_path / "roberta")
    cfg.model.samples = 3
    model = train(cfg).model
    torch.testing.assert_close(model.answers.sum(1), torch.ones(3))
    # the words' logits, one by one, right where the prompt ends
    torch.testing.assert_close(model.teacher(["a b", "b"])[1:], model.teacher(["b"]))
    with pytest.raises(UserError, match="begin with equal tokens"):
        LabelWordClassifier(teacher.network, teacher.tokenizer, ["a", "a b"])

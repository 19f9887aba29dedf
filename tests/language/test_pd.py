"""PD: sizes, the soft cross-entropy, the order of steps, who learns, the runs."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from pld_mmdet.distill.losses import soft_cross_entropy
from pld_mmdet.errors import UserError
from pld_mmdet.language.data.grammar import TopicGrammar
from pld_mmdet.language.data.kept_answers import load_answers
from pld_mmdet.language.pd import LAYERS, PD, WIDTHS, compact_bert
from pld_mmdet.registry import DATASETS
from tests.language.tiny import (
    GENERAL,
    TASK,
    bert_folder,
    body,
    encoder,
    jsonl,
    shortened,
    with_gradient,
)
from tests.toy_run import enter, toy_config, train

SMALL = dict(layers=2, width=4)


def model(**options) -> PD:
    torch.manual_seed(0)
    return PD(
        encoder(**SMALL),
        encoder(),
        encoder("MaskedLM", **SMALL),
        encoder("MaskedLM"),
        **options,
    )


def test_number_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    z = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert soft_cross_entropy(z, p).item() == pytest.approx(0.851445, abs=1e-6)
    net = model()
    with torch.no_grad():  # answers that differ from even ones
        for part in (net.teacher, net.student):
            part.model.classifier.weight.mul_(100)
    enter(net, "distill")
    loss = net.loss(**GENERAL)["loss_distill"]
    z_t, z_s = net.teacher(**GENERAL), net.student(**GENERAL)
    entropy = -(z_t.softmax(1) * z_t.log_softmax(1)).sum(1).mean()
    kl = F.kl_div(z_s.log_softmax(1), z_t.softmax(1), reduction="batchmean")
    torch.testing.assert_close(loss, kl + entropy)
    assert kl > 1e-2


def test_a_teacher_that_is_sure_is_a_label():
    net = model(soft=False)
    enter(net, "distill")
    with torch.no_grad():
        label = net.teacher(**GENERAL).argmax(1)
    wanted = F.cross_entropy(net.student(**GENERAL), label)
    torch.testing.assert_close(net.loss(**GENERAL)["loss_distill"], wanted)


@pytest.mark.parametrize(
    ("layers", "width", "count"),
    [
        (2, 128, 4_385_920),
        (4, 256, 11_170_560),
        (4, 512, 28_763_648),
        (8, 512, 41_373_184),
        (12, 768, 109_482_240),
    ],
)
def test_parameters_of_the_published_students(layers, width, count):
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**compact_bert(layers, width))
    with torch.device("meta"):
        found = AutoModel.from_config(config)
    assert sum(p.numel() for p in found.parameters()) == count


def test_24_students_with_heads_of_64():
    every = [compact_bert(one, width) for one in LAYERS for width in WIDTHS]
    assert len(every) == 24
    for config in every:
        assert config["hidden_size"] == 64 * config["num_attention_heads"]
        assert config["intermediate_size"] == 4 * config["hidden_size"]
    with pytest.raises(UserError, match="no student of 3 layers and 128"):
        compact_bert(3, 128)


@pytest.mark.parametrize(
    ("stage", "learner"),
    [
        ("mlm", "student_lm"),
        ("teacher_mlm", "teacher_lm"),
        ("teacher", "teacher"),
        ("distill", "student"),
        ("finetune", "student"),
    ],
)
def test_each_stage_trains_one_network(stage, learner):
    net = model()
    enter(net, stage)
    net.train()
    torch.manual_seed(1)
    batch = {k: v.repeat_interleave(5, 0) for k, v in TASK.items()}
    sum(net.loss(**batch).values()).backward()
    assert with_gradient(net) == {learner}
    assert net.teacher.training == (stage == "teacher")


def test_labels_do_not_change_the_distillation():
    net = model()
    enter(net, "distill")
    one = net.loss(**TASK)["loss_distill"]
    turned = {**TASK, "targets": TASK["targets"].flip(0)}
    assert torch.equal(one, net.loss(**turned)["loss_distill"])


def test_steps_go_in_one_order():
    net = model()
    enter(net, "finetune")
    net.loss(**TASK)
    enter(net, "distill")
    with pytest.raises(UserError, match="step distill comes after finetune"):
        net.loss(**GENERAL)


def test_the_student_begins_as_what_was_pre_trained_and_is_not_begun_twice():
    net = model()

    def words(part):
        return part.body.get_input_embeddings().weight

    enter(net, "distill")
    net.start_stage("distill", None, None)
    assert torch.equal(words(net.student), words(net.student_lm))
    net.forward("loss", **GENERAL)
    with torch.no_grad():
        words(net.student).add_(1)
    enter(net, "finetune")
    net.start_stage("finetune", None, None)
    torch.testing.assert_close(words(net.student), words(net.student_lm) + 1)


def test_kept_answers_are_those_of_each_step():
    kept, asked = model(samples=(3, 3)), model()
    batch = dict(**GENERAL, index=torch.tensor([2, 0, 1]))
    enter(kept, "distill")
    kept.train()
    kept.start_stage("distill", [batch], None)
    enter(asked, "distill")
    loss = kept.loss(**batch)["loss_distill"]
    torch.testing.assert_close(loss, asked.loss(**GENERAL)["loss_distill"])
    torch.testing.assert_close(kept.bank.rows[2], asked.teacher(**GENERAL)[0].detach())
    with pytest.raises(UserError, match="no numbered texts"):
        kept.start_stage("distill", [GENERAL], None)
    with pytest.raises(UserError, match="no work_dataloader"):
        kept.start_stage("distill", None, None)
    few = model(samples=(2, 3))
    enter(few, "distill")
    with pytest.raises(UserError, match="more than samples=2 texts"):
        few.start_stage("distill", [batch], None)
    assert TopicGrammar("general", 5, indexed=True)[3]["index"] == 3


def test_answers_are_made_once_for_all_students_and_checked(tmp_path):
    path = str(tmp_path / "made/answers.safetensors")
    batch = dict(**GENERAL, index=torch.tensor([2, 0, 1]))
    first = model(samples=(3, 3), answers=path)
    enter(first, "distill")
    first.start_stage("distill", [batch], None)
    second = model(samples=(3, 3), answers=path)
    enter(second, "distill")
    second.start_stage("distill", None, None)  # no text is read
    assert torch.equal(second.bank.rows, first.bank.rows)
    assert first.bank.rows.abs().sum() > 0
    with pytest.raises(UserError, match=r"\(3, 3\) answers, \(4, 3\) are asked"):
        load_answers(path, (4, 3), first.teacher)
    with pytest.raises(UserError, match="the answers of another teacher"):
        load_answers(path, (3, 3), first.student)
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(UserError, match="are damaged"):
        second.start_stage("distill", None, None)
    Path(path).write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        second.start_stage("distill", None, None)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(UserError, match="vocabularies differ: student 29, teacher 30"):
        PD(encoder(vocab_size=29), encoder())
    net = MODELS.build(dict(encoder(), _scope_="pld_mmdet"))
    with pytest.raises(UserError, match=r"Texts of 9 tokens, .* has 8 positions"):
        net(torch.ones(1, 9, dtype=torch.long))
    none = torch.zeros(0, 3)
    assert soft_cross_entropy(none, none).item() == 0
    folder = bert_folder(tmp_path, **SMALL)
    jsonl(tmp_path / "bad.jsonl", [dict(text="good"), dict(text=" ")])
    text = dict(type="pld_mmdet.EncodedText", data_root=str(tmp_path), tokenizer=folder)
    with pytest.raises(UserError, match=r"Line 2 of .*bad\.jsonl .*is empty"):
        DATASETS.build(dict(text, ann_file="bad.jsonl"))
    (tmp_path / "a.tsv").write_text("label\ttext\n2\tgood film\n0\tbad\n")
    table = DATASETS.build(dict(text, ann_file="a.tsv", max_length=8))
    assert table.lines == [("good film", None, 2), ("bad", None, 0)]
    (tmp_path / "b.tsv").write_text("label\ttext\n2\tgood\n0\n")
    with pytest.raises(UserError, match=r"Line 3 of .*b\.tsv .*1 columns"):
        DATASETS.build(dict(text, ann_file="b.tsv"))
    with pytest.raises(UserError, match=r"c\.jsonl does not exist"):
        DATASETS.build(dict(text, ann_file="c.jsonl"))


def test_paper_config_trains_from_a_folder_and_a_jsonl_file(tmp_path):
    folder = bert_folder(tmp_path, **SMALL)
    lines = [dict(text="good film", label=1), dict(text="bad", pair="film", label=0)]
    for name in ("train", "dev_matched"):
        jsonl(tmp_path / f"{name}.jsonl", lines)
    for name in ("general", "transfer"):
        jsonl(tmp_path / f"{name}.jsonl", [dict(text=x["text"]) for x in lines])
    cfg = toy_config("configs/pd/paper.py", tmp_path / "run")
    shortened(cfg, tmp_path, folder)
    cfg.model.teacher.pretrained = folder
    small = body(2, 4, vocab_size=9)
    cfg.model.student.config = cfg.model.student_lm.config = small
    cfg.model.samples = (2, 3)
    with pytest.raises(UserError, match="first_word=999 do not lie in a vocab"):
        train(cfg)
    cfg = cfg.copy()
    cfg.experiment_name += "_again"
    cfg.model.update(mask_id=4, first_word=5)
    net = train(cfg).model
    assert net.progress.stage == "finetune"
    assert net.bank.rows.abs().sum() > 0

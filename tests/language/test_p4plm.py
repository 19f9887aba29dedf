"""P4PLM: KL by hand, where C begins, what is kept, who learns, the runs."""

import pytest
import torch

from pld_mmdet.distill.divergences import kl
from pld_mmdet.errors import UserError
from pld_mmdet.language.data.grammar import MASK
from pld_mmdet.language.p4plm import P4PLM
from tests.language.tiny import (
    GENERAL,
    TASK,
    bert_folder,
    encoder,
    jsonl,
    shortened,
    with_gradient,
)
from tests.toy_run import assert_resume_is_exact, enter, toy_config, train

SMALL = dict(layers=2, width=4)
BATCH = dict(**GENERAL, index=torch.tensor([2, 0, 1]))


def model(**options) -> P4PLM:
    torch.manual_seed(0)
    return P4PLM(encoder(**SMALL), encoder("MaskedLM", **SMALL), (3, 3), **options)


def state(part) -> dict:
    return {k: v.clone() for k, v in part.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return all(torch.equal(one[k], two[k]) for k in one if k in two)


def test_numbers_by_hand():
    z_b = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64)
    z_c = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert kl(z_b, z_c).item() == pytest.approx(0.912983, abs=1e-6)
    net = model()
    enter(net, "distill")
    net.bank.write(BATCH["index"], z_b.float().repeat(3, 1))
    net.student.forward = lambda ids, mask: z_c.float().repeat(3, 1).requires_grad_()
    assert net.loss(**BATCH)["loss_distill"].item() == pytest.approx(0.912983, abs=1e-6)
    net.soft = False
    assert net.loss(**BATCH)["loss_distill"].item() == pytest.approx(1.551445, abs=1e-6)


def test_a_constant_added_to_a_row_costs_nothing():
    net = model()
    enter(net, "distill")
    z_c = net.student(**GENERAL).detach()
    net.bank.write(BATCH["index"], z_c + torch.tensor([[3.0], [-1.0], [0.5]]))
    assert net.loss(**BATCH)["loss_distill"].item() == pytest.approx(0, abs=1e-6)


def test_c_begins_with_the_first_weights_and_so_does_a():
    net = model()
    first = state(net.student)
    bodies = state(net.masked.body)
    assert same(bodies, state(net.student.body))
    assert same(first, state(net.labeller))
    with torch.no_grad():
        for p in net.masked.parameters():
            p.add_(0.1)
    enter(net, "labeller")
    net.start_stage("labeller", None, None)
    assert same(state(net.masked.body), state(net.labeller.body))
    enter(net, "distill")
    with pytest.raises(UserError, match="B has answered nothing"):
        net.start_stage("distill", None, None)
    net.bank.rows.add_(1)
    net.start_stage("distill", None, None)
    assert same(first, state(net.student))
    control = model(begin="a")
    with torch.no_grad():
        for p in control.masked.parameters():
            p.add_(0.1)
    enter(control, "distill")
    control.bank.rows.add_(1)
    control.start_stage("distill", None, None)
    assert same(state(control.masked.body), state(control.student.body))


def test_answers_are_logits_of_the_evaluation_mode_and_written_once():
    dropped = dict(SMALL, hidden_dropout_prob=0.5)
    torch.manual_seed(0)
    net = P4PLM(encoder(**dropped), encoder("MaskedLM", **dropped), (3, 3))
    with torch.no_grad():
        net.labeller.model.classifier.bias.add_(torch.tensor([0.5, -1.0, 2.0]))
    net.train()
    enter(net, "label")
    net.start_stage("label", [BATCH], None)
    wanted = net.labeller.eval()(**GENERAL)
    torch.testing.assert_close(net.bank.read(BATCH["index"]), wanted.detach())
    asked = P4PLM(encoder(**dropped), encoder("MaskedLM", **dropped))
    asked.labeller.load_state_dict(net.labeller.state_dict())
    asked.train()
    enter(asked, "distill")
    asked.student = net.student
    enter(net, "distill")
    for one in (asked, net):
        torch.manual_seed(3)
        one.train()
        one.found = one.loss(**BATCH)["loss_distill"]
    torch.testing.assert_close(asked.found, net.found)
    before = net.bank.rows.clone()
    enter(net, "distill")
    net.loss(**BATCH)["loss_distill"].backward()
    assert torch.equal(net.bank.rows, before)


def test_the_text_of_the_distillation_is_not_masked():
    net, seen = model(), []
    enter(net, "distill")
    net.student.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net.loss(**BATCH)
    assert torch.equal(seen[0], GENERAL["input_ids"])
    both = model(mlm_weight=1.0)
    enter(both, "distill")
    both.student.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    many = {k: v.repeat_interleave(9, 0) for k, v in BATCH.items()}
    losses = both.loss(**many)
    assert (seen[1] == MASK).any()
    less = model(mlm_weight=0.3)
    enter(less, "distill")
    torch.manual_seed(2)
    weak = less.loss(**many)["loss_mlm"]
    torch.manual_seed(2)
    torch.testing.assert_close(weak, 0.3 * both.loss(**many)["loss_mlm"])
    losses["loss_mlm"].backward()
    learnt = with_gradient(both)
    assert "student" in learnt  # the second head reads the student's own body
    assert both.second_head.body is both.student.body


@pytest.mark.parametrize(
    ("stage", "learner"),
    [
        ("mlm", "masked"),
        ("labeller", "labeller"),
        ("distill", "student"),
        ("finetune", "student"),
    ],
)
def test_each_stage_trains_one_network(stage, learner):
    net = model()
    net.bank.write(torch.arange(3), torch.randn(3, 3))
    enter(net, stage)
    torch.manual_seed(1)
    batch = {**TASK, "index": torch.arange(3)}
    batch = {k: v.repeat_interleave(5, 0) for k, v in batch.items()}
    sum(net.loss(**batch).values()).backward()
    assert with_gradient(net) == {learner}


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match="would keep nothing, because samples is None"):
        P4PLM(encoder(**SMALL), encoder("MaskedLM", **SMALL), answers="x")
    with pytest.raises(UserError, match="begin='b' is not known"):
        model(begin="b")
    net = model()
    enter(net, "label")
    with pytest.raises(UserError, match="label has no work_dataloader"):
        net.start_stage("label", None, None)
    with pytest.raises(UserError, match="no stage 'teacher'"):
        net.check_stage("teacher")
    enter(net, "finetune")
    with pytest.raises(UserError, match="finetune was given data without labels"):
        net.loss(**GENERAL)
    with pytest.raises(UserError, match="cannot begin as another one"):
        P4PLM(encoder(**SMALL), encoder("MaskedLM", layers=2, width=8), (3, 3))


def test_paper_config_trains_from_a_folder_and_a_jsonl_file(tmp_path):
    folder = bert_folder(tmp_path, **SMALL)
    lines = [dict(text="good film", label=1), dict(text="bad", label=0)]
    for name in ("train", "val", "test"):
        jsonl(tmp_path / f"{name}.jsonl", lines)
    jsonl(tmp_path / "unlabelled.jsonl", [dict(text=x["text"]) for x in lines])
    cfg = toy_config("configs/p4plm/paper.py", tmp_path / "run")
    shortened(cfg, tmp_path, folder)
    cfg.model.student.update(pretrained=folder, num_classes=3)
    cfg.model.masked.pretrained = folder
    cfg.model.update(mask_id=4, first_word=5)
    net = train(cfg).model
    assert net.progress.stage == "finetune"
    files = [s.dataloader.dataset.ann_file for s in cfg.train_cfg.stages]
    assert files == [f"{name}.jsonl" for name in ("unlabelled", "train") * 2]


def test_kept_answers_are_read_and_checked(tmp_path):
    path = tmp_path / "made/answers.safetensors"

    def labelled(**options):
        net = model(answers=str(path), **options)
        with torch.no_grad():
            net.labeller.model.classifier.bias.add_(torch.tensor([0.5, -1.0, 2.0]))
        enter(net, "label")
        return net

    first = labelled()
    first.start_stage("label", [BATCH], None)
    second = labelled()
    second.start_stage("label", None, None)  # no text is read
    assert torch.equal(second.bank.rows, first.bank.rows)
    wanted = first.labeller(**GENERAL)[1].detach()
    assert torch.equal(second.bank.rows[0], wanted)  # exact
    other = labelled()
    with torch.no_grad():
        other.labeller.model.classifier.weight[2, 3] += 1
    with pytest.raises(UserError, match="the answers of another teacher"):
        other.start_stage("label", None, None)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="are damaged"):
        labelled().start_stage("label", None, None)


def test_a_killed_run_reads_what_was_kept(tmp_path):
    path = tmp_path / "answers.safetensors"
    made = []
    asked = P4PLM.keep_answers
    options = f"model.answers={path}", "model.samples=(64,8)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            P4PLM,
            "keep_answers",
            lambda *a: made.append(asked(*a)) or made.append(path.stat().st_ino),
        )
        assert_resume_is_exact("configs/p4plm/toy.py", tmp_path, 2, *options)
    assert made[1::2] == [path.stat().st_ino] * 2  # asked, then read

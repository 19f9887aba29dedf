"""ERNIE-Tiny: the one-change rule, what each stage trains, its losses, the runs."""

import copy
import json
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForMaskedLM, BertTokenizerFast

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.grammar import MASK, TopicGrammar, mask_words
from pld_mmdet.language.ernie_tiny import (
    RECIPE,
    ERNIETiny,
    check_recipe,
    layer_map,
    matched,
)
from tests.toy_run import assert_resume_is_exact, enter, toy_config, train


def body(layers=4, width=8, **more) -> dict:
    return dict(
        model_type="bert",
        vocab_size=30,
        max_position_embeddings=8,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **more,
    )


def encoder(task="SequenceClassification", **options) -> dict:
    classes = {} if task == "MaskedLM" else {"num_classes": 3}
    kind = "pld_mmdet.EncoderTransformer"
    return dict(type=kind, task=task, config=body(**options), **classes)


def model(student: dict | None = None, **options) -> ERNIETiny:
    torch.manual_seed(0)
    student = student or encoder(layers=2, width=4)
    return ERNIETiny(encoder("MaskedLM"), encoder(), student, **options)


IDS = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 9, 2, 0]])
GENERAL = dict(input_ids=IDS, attention_mask=(IDS > 0).long())
TASK = dict(**GENERAL, targets=torch.tensor([0, 2]))


def test_neighbouring_stages_differ_in_one_component():
    stages = list(RECIPE.values())
    for one, two in pairwise(stages):
        assert sum(one[key] != two[key] for key in one) == 1
    # the teacher switches once, from P to F
    assert [s["teacher"][0] for s in stages] == ["p", "f", "f", "f"]
    check_recipe(RECIPE)


def test_a_recipe_that_changes_two_things_is_refused():
    wrong = {name: RECIPE[name] for name in ("GD", "TAD", "TSD")}
    with pytest.raises(UserError, match=r"GD to TAD .* changes teacher and data"):
        model(recipe=wrong)
    with pytest.raises(UserError, match="changes nothing"):
        check_recipe({"a": RECIPE["GD"], "b": RECIPE["GD"]})


def test_layer_maps_of_the_specification():
    assert layer_map(4, 12) == [0, 3, 6, 9, 12]
    assert layer_map(2, 4) == [0, 2, 4]
    assert layer_map(3, 3) == [0, 1, 2, 3]


def test_matched_by_hand():
    student = [torch.zeros(1, 2), torch.ones(1, 2)]
    teacher = [torch.full((1, 2), float(k)) for k in range(4)]
    # (0 - 1)^2 + (1 - 3)^2
    assert matched(student, teacher, [1, 3]).item() == 5.0


def test_latent_loss_takes_the_mapped_layers():
    net = model()
    enter(net, "GD")
    found = net.loss(**GENERAL)
    with torch.no_grad():
        h_t, a_t, _ = net.pretrained.inside(**GENERAL)
        h_s, a_s, _ = net.student.inside(**GENERAL)
        hidden = sum(
            F.mse_loss(net.w(h_s[m]), h_t[t]) for m, t in ((0, 0), (1, 2), (2, 4))
        )
        maps = F.mse_loss(a_s[0], a_t[1]) + F.mse_loss(a_s[1], a_t[3])
    torch.testing.assert_close(found["loss_hidden"].detach(), hidden)
    torch.testing.assert_close(found["loss_attention"].detach(), maps)


def test_a_student_that_is_the_teacher_has_no_latent_loss():
    net = model(encoder())
    net.student.load_state_dict(net.finetuned.state_dict())
    torch.nn.init.eye_(net.w.weight)
    enter(net, "TAD")
    assert sum(net.loss(**TASK).values()).item() <= 1e-7


def test_last_stage_by_hand():
    net = model()
    enter(net, "TSD")
    found = net.loss(**TASK)
    with torch.no_grad():
        z_s, z_f = net.student(**GENERAL), net.finetuned(**GENERAL)
    soft = -(z_f.softmax(-1) * z_s.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(found["loss_soft"].detach(), soft)
    hard = F.cross_entropy(z_s, TASK["targets"])
    torch.testing.assert_close(found["loss_hard"].detach(), hard)


@pytest.mark.parametrize(
    ("losses", "teacher", "student", "found"),
    [
        (["latent"], False, False, {"loss_hidden", "loss_attention"}),
        (["hard"], False, True, {"loss_hard"}),
        (["soft"], True, True, {"loss_soft"}),
    ],
)
def test_heads_are_computed_where_they_are_compared(
    losses, teacher, student, found, monkeypatch
):
    net = model(recipe={"TSD": {**RECIPE["TSD"], "losses": losses}})
    enter(net, "TSD")
    asked = []
    for part in (net.finetuned, net.student):

        def spy(ids, mask, head, inside=part.inside):
            asked.append(head)
            return inside(ids, mask, head=head)

        monkeypatch.setattr(part, "inside", spy)
    assert net.loss(**TASK).keys() == found
    assert asked == [teacher, student]


def with_gradient(net) -> set[str]:
    return {
        name.partition(".")[0]
        for name, p in net.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }


@pytest.mark.parametrize(
    ("stage", "batch", "learners"),
    [
        ("mlm", GENERAL, {"pretrained"}),
        ("teacher", TASK, {"finetuned"}),
        *[(s, GENERAL, {"student", "w"}) for s in ("GD", "GED")],
        *[(s, TASK, {"student", "w"}) for s in ("TAD", "TSD")],
    ],
)
def test_each_stage_trains_its_learner_alone(stage, batch, learners):
    net = model()
    enter(net, stage)
    net.train()
    sum(net.loss(**batch).values()).backward()
    assert with_gradient(net) == learners
    for name in ("pretrained", "finetuned", "student"):
        assert getattr(net, name).training == (name in learners)
    head = net.student.model.classifier.weight.grad
    assert (head is not None) == (stage == "TSD")


def test_labels_do_not_change_the_loss_before_the_last_stage():
    net = model()
    enter(net, "TAD")
    losses = [
        sum(net.loss(**GENERAL, targets=torch.tensor(t)).values())
        for t in ([0, 0], [2, 1])
    ]
    assert losses[0] == losses[1]


def test_the_wrong_kind_of_data_is_refused():
    net = model()
    with pytest.raises(UserError, match="no stage 'distill'"):
        net.loss(**TASK)
    for stage, batch in (("GED", TASK), ("TAD", GENERAL), ("mlm", TASK)):
        enter(net, stage)
        with pytest.raises(UserError, match=f"{stage} was given the other kind"):
            net.loss(**batch)
    with pytest.raises(UserError, match="no stage 'XD'"):
        net.check_stage("XD")


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"\(3 layers, 2 heads\) cannot imitate"):
        model(encoder(layers=3))
    for heads in (1, 4):
        student = encoder(layers=2, width=4)
        student["config"]["num_attention_heads"] = heads
        said = rf"\(2 layers, {heads} heads\) cannot .* \(4 layers, 2 heads\)"
        with pytest.raises(UserError, match=said):
            model(student)
    small = encoder(layers=2, width=4)
    for one, two in (
        (dict(width=16), {}),
        (dict(layers=2), dict(layers=4)),
        (dict(layers=4), dict(layers=2)),
    ):
        with pytest.raises(UserError, match="differ in shape"):
            ERNIETiny(encoder("MaskedLM", **one), encoder(**two), small)


def test_predicts_with_the_network_that_is_asked_for():
    for name in ("student", "finetuned"):
        net = model(predict_on=name).eval()
        found = net.predict(**TASK)[0]
        assert torch.equal(found["logits"], getattr(net, name)(**GENERAL))
        assert torch.equal(found["targets"], TASK["targets"])
    with pytest.raises(UserError, match="predict_on='pretrained' is not known"):
        model(predict_on="pretrained")


def test_the_finetuned_teacher_begins_as_the_pretrained_one():
    net = model()
    net.start_stage("GD", None, None)
    ours, theirs = (n.inside(**GENERAL)[0][-1] for n in (net.pretrained, net.finetuned))
    assert not torch.equal(ours, theirs)
    net.start_stage("teacher", None, None)
    ours, theirs = (n.inside(**GENERAL)[0][-1] for n in (net.pretrained, net.finetuned))
    assert torch.equal(ours, theirs)


def test_masked_words():
    torch.manual_seed(0)
    net = model()  # the toy leaves the grammar's words to the defaults
    assert (net.mask_id, net.first_word) == (MASK, MASK + 1) == (3, 4)
    ids = torch.randint(4, 30, (400, 20))
    ids[:, 0], ids[:, 15:] = 1, 0
    real = (ids > 0).long()
    spoilt, labels = mask_words(ids, real, 30, mask_id=MASK, first_word=4)
    chosen = labels >= 0
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(spoilt[~chosen], ids[~chosen])
    assert not chosen[:, 0].any()
    assert not chosen[:, 15:].any()
    assert chosen[:, 1:15].float().mean().item() == pytest.approx(0.15, abs=0.02)
    masked = (spoilt[chosen] == MASK).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.05)
    other = (spoilt[chosen] != ids[chosen]).float().mean().item()
    assert other == pytest.approx(0.9, abs=0.05)
    # nothing to predict in a batch is no error
    nothing = torch.zeros(2, 4, dtype=torch.long)
    assert (mask_words(nothing, nothing, 30, 3, 4)[1] == -100).all()


def test_the_grammar_is_the_same_for_every_seed_and_its_parts_differ():
    one, two = TopicGrammar("task", 20), TopicGrammar("task", 20)
    assert torch.equal(one.input_ids, two.input_ids)
    other = TopicGrammar("val", 20)
    assert not torch.equal(one.input_ids, other.input_ids)
    sample = TopicGrammar("general", 4)[2]
    assert sample.keys() == {"input_ids", "attention_mask"}
    ids = sample["input_ids"][sample["attention_mask"] > 0]
    assert (ids[0], ids[-1]) == (1, 2)
    assert ids[1:-1].min() >= 4
    assert int(one.input_ids.max()) < one.vocab_size
    with pytest.raises(UserError, match="part='dev'"):
        TopicGrammar("dev", 1)


def test_toy_run_goes_through_all_stages_and_resumes_exactly(tmp_path):
    runner, last = assert_resume_is_exact("configs/ernie_tiny/toy.py", tmp_path, 3)
    assert runner.max_iters == 6
    net = runner.model
    assert net.progress.stage == "TSD"
    fresh = ERNIETiny(
        **{k: v for k, v in copy.deepcopy(runner.cfg.model).items() if k != "type"}
    )
    fresh.load_state_dict(last["state_dict"], strict=True)


@pytest.mark.parametrize("row", ["plain", "tsd_only"])
def test_rows_of_the_table_train(row, tmp_path):
    cfg = toy_config(f"configs/ernie_tiny/{row}.py", tmp_path, walk=False)
    for stage in cfg.train_cfg.get("stages", []):
        stage.max_iters = 1
    if row == "plain":
        cfg.train_cfg.max_iters = 2
    cfg.val_dataloader.dataset.size = 20
    metrics = train(cfg).val_loop.run()
    assert 0 <= metrics["accuracy"] <= 1


def test_paper_config_trains_from_weights_on_disk(tmp_path):
    folder = str(tmp_path / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    sizes = body(layers=4, width=8)
    config = AutoConfig.for_model(**{**sizes, "num_attention_heads": 2})
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    lines = [dict(text="good film", label=1), dict(text="bad", pair="film", label=0)]
    for name in ("train", "val"):
        text = "\n".join(json.dumps(line) for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text)
    plain = "\n".join(json.dumps(dict(text=line["text"])) for line in lines)
    (tmp_path / "general.jsonl").write_text(plain)
    cfg = toy_config("configs/ernie_tiny/paper.py", tmp_path)
    cfg.model.pretrained.pretrained = cfg.model.finetuned.pretrained = folder
    small = {**sizes, "num_hidden_layers": 2, "hidden_size": 4, "vocab_size": 8}
    cfg.model.student.config = small
    cfg.val_dataloader.dataset.update(ann_file="val.jsonl")
    loaders = [s.dataloader for s in cfg.train_cfg.stages]
    for loader in (*loaders, cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(data_root=str(tmp_path), tokenizer=folder, max_length=8)
        loader.update(batch_size=2, num_workers=0)
    for stage in cfg.train_cfg.stages:
        stage.max_iters = 1
        warm, *falling = stage.param_scheduler
        assert bool(falling) == (stage.name in ("teacher", "TSD"))
        if falling:
            warm.end = falling[0].begin = 1
            stage.max_iters = 3
    runner = train(cfg)
    assert [s["name"] for s in cfg.train_cfg.stages] == ["teacher", *RECIPE]
    ids = runner.val_dataloader.dataset[1]["input_ids"].tolist()
    assert ids == [2, 6, 3, 7, 3, 0, 0, 0]  # [CLS] bad [SEP] film [SEP]

"""AutoDistil: relations by hand, slices, what is sampled and chosen, the runs."""

import math

import pytest
import torch

from pld_mmdet.distill.relations import relation_kl, relation_mse, relation_scores
from pld_mmdet.errors import UserError
from pld_mmdet.language.autodistil import AutoDistil, relation_gap, relations
from pld_mmdet.language.networks.elastic import (
    ElasticEncoder,
    Size,
    kept_layers,
    parameters,
    sub_sizes,
)
from tests.language.tiny import (
    GENERAL,
    TASK,
    bert_folder,
    encoder,
    jsonl,
    shortened,
)
from tests.toy_run import enter, toy_config, train

ELASTIC = dict(
    type="pld_mmdet.ElasticEncoder",
    layers=2,
    heads=2,
    width=8,
    ratio=1.0,
    vocab_size=30,
    positions=8,
    head_size=4,
    dropout=0.0,
    num_classes=3,
    initializer_range=0.3,
)
SPACE = dict(layers=(1, 2), heads=(1, 2), width=(4, 8), ratio=(0.5, 1.0))
FULL = Size(2, 2, 8, 1.0)


def model(**options) -> AutoDistil:
    torch.manual_seed(0)
    teacher = encoder("MaskedLM", layers=2, width=8, initializer_range=0.3)
    student = dict(ELASTIC, dropout=options.pop("student_dropout", 0.0))
    options = {"space": SPACE, **options}
    return AutoDistil(teacher, student, **options)


def test_numbers_by_hand():
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    student = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    t, s = (relation_scores(x, 1) for x in (teacher, student))
    assert relation_mse(t, s).item() == pytest.approx(1.5)
    assert relation_kl(t, s).item() == pytest.approx(0.238938, abs=1e-6)
    assert relation_gap(t, s, None, "mse").item() == pytest.approx(1.5)
    assert relation_gap(t, s, None, "kl").item() == pytest.approx(0.238938, abs=1e-6)
    assert relation_gap(s, t, None, "kl").item() == pytest.approx(0.389246, abs=1e-6)
    # the second key is hidden: (1 - 2)^2 / 2 and (0 - 1)^2 / 2 of four elements
    mask = torch.tensor([[1, 0]])
    assert relation_gap(t, s, mask, "mse").item() == pytest.approx(0.25)
    assert relation_gap(t, s, mask, "kl").item() == pytest.approx(0, abs=1e-9)
    # the last of three keys is hidden: (ln 3, 0) against (0, 0) in one row of three
    t, s = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    t[0, 0, 0] = torch.tensor([math.log(3), 0, 7])
    wanted = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 3
    found = relation_gap(t, s, torch.tensor([[1, 1, 0]]), "kl")
    assert found.item() == pytest.approx(wanted, abs=1e-6)


def test_spaces_of_the_paper():
    ranges = {
        (9, 544, 9, 2.5): 39.21,
        (12, 640, 12, 4.0): 79.36,
        (9, 256, 7, 2.5): 12.61,
        (12, 352, 10, 4.0): 28.20,
        (4, 128, 7, 2.0): 4.44,
        (7, 224, 10, 3.5): 10.71,
    }
    for (layers, width, heads, ratio), millions in ranges.items():
        found = parameters(Size(layers, heads, width, ratio), 12) / 1e6
        assert found == pytest.approx(millions, abs=5e-3)
    small = sub_sizes(range(9, 13), range(7, 11), range(256, 353, 32), (2.5, 3, 3.5, 4))
    assert len(small) == 256
    assert kept_layers(7, 12) == [0, 1, 3, 5, 6, 8, 10]
    assert kept_layers(4, 12) == [0, 3, 6, 9]
    assert kept_layers(12, 12) == list(range(12))


@pytest.mark.parametrize(
    ("heads", "channels"),
    [(7, 444), (8, 504), (9, 576), (10, 636), (11, 696), (12, 768)],
)
def test_relation_heads_are_the_teachers(heads, channels):
    x = torch.randn(1, 3, heads * 64)
    found = relations(x, 12)
    assert found.shape == (1, 12, 3, 3)
    torch.testing.assert_close(found, relation_scores(x[..., :channels], 12))


def test_the_full_network_with_the_teachers_weights_has_no_loss():
    net = model()
    enter(net, "distill")
    net.start_stage("distill", None, None)
    theirs = net.teacher_relations(**GENERAL_ARGS)
    full = net.apart(FULL, theirs, GENERAL["input_ids"], GENERAL["attention_mask"])
    assert full.item() < 1e-9
    h, _ = net.student.inside(**GENERAL)
    wanted = net.teacher.body(**GENERAL).last_hidden_state
    real = GENERAL["attention_mask"].bool()
    torch.testing.assert_close(h[real], wanted[real], atol=1e-5, rtol=1e-5)
    small = net.apart(Size(1, 1, 4, 0.5), theirs, *GENERAL.values())
    assert small.item() > 1e-3


GENERAL_ARGS = dict(ids=GENERAL["input_ids"], mask=GENERAL["attention_mask"])


@pytest.mark.parametrize("size", [Size(1, 1, 4, 0.5), Size(2, 1, 8, 0.5), FULL])
def test_an_extracted_network_answers_as_its_slice(size):
    torch.manual_seed(0)
    net = ElasticEncoder(**{k: v for k, v in ELASTIC.items() if k != "type"}).eval()
    net.become(size)
    alone = net.extracted()
    assert alone.full == size
    assert not alone.training
    torch.testing.assert_close(alone(**GENERAL), net(**GENERAL))
    count = sum(p.numel() for p in alone.parameters())
    assert (count < sum(p.numel() for p in net.parameters())) == (size != FULL)


def test_a_step_takes_four_and_their_gradients_add_up():
    net = model()
    names = [size for step in range(40) for size in net.sampled(step)[2:]]
    assert len(set(names)) == 14
    assert net.sampled(3) == net.sampled(3)
    assert net.sampled(3)[:2] == [FULL, Size(1, 1, 4, 0.5)]
    enter(net, "distill")
    net.progress.step = 3
    losses = net.loss(**GENERAL)
    assert len(losses) == 4
    assert net.sampled(3) != net.sampled(0)
    weight = net.student.layers[0].query.weight
    (whole,) = torch.autograd.grad(sum(losses.values()), weight)
    parts = 0
    for size in net.sampled(net.progress.step):
        theirs = net.teacher_relations(**GENERAL_ARGS)
        loss = net.apart(size, theirs, *GENERAL.values())
        (part,) = torch.autograd.grad(loss, weight, allow_unused=True)
        parts = parts + (0 if part is None else part)
    torch.testing.assert_close(whole, parts)


def test_what_a_small_one_does_not_use_has_no_gradient():
    net = model(only=(1, 1, 4, 0.5))
    enter(net, "distill")
    losses = net.loss(**GENERAL)
    assert set(losses) == {"loss_largest"}
    losses["loss_largest"].backward()
    grad = net.student.layers[0].query.weight.grad
    assert grad[:4, :4].abs().sum() > 0
    assert grad[4:].abs().sum() == 0
    assert grad[:, 4:].abs().sum() == 0
    assert net.student.layers[1].query.weight.grad is None
    assert all(p.grad is None for p in net.teacher.parameters())


def test_the_search_takes_the_best_under_the_cap(tmp_path):
    cap = 900.0
    net = model(most_parameters=cap)
    enter(net, "search")
    net.start_stage(
        "search", [GENERAL, {k: v[:1] for k, v in GENERAL.items()}], tmp_path
    )
    allowed = [loss for loss, n in zip(net.losses, net.counts, strict=True) if n <= cap]
    assert 0 < len(allowed) < 16
    assert net.losses[net.chosen] == min(allowed)
    found = (tmp_path / "search.csv").read_text().splitlines()
    assert len(found) == 17
    assert sum(line.endswith("True") for line in found) == 1
    logits = net.outputs(**GENERAL)
    torch.testing.assert_close(net.extracted()(**GENERAL), logits)
    assert net.student.size == net.choice
    drawn = model(most_parameters=cap, pick="random")
    enter(drawn, "search")
    seen = set()
    for seed in range(9):
        torch.manual_seed(seed)
        drawn.start_stage("search", [GENERAL], None)
        seen.add(int(drawn.chosen))
    assert len(seen) > 1
    assert all(drawn.counts[i] <= cap for i in seen)


def test_a_search_weighs_samples_alike_without_dropout():
    """Batches of 1 and 2: the mean over 3 texts, not over 2 batches."""
    net = model(student_dropout=0.5)
    parts = [{k: v[:1] for k, v in GENERAL.items()}]
    parts.append({k: v[1:] for k, v in GENERAL.items()})
    enter(net, "search")
    net.train()
    net.start_stage("search", parts, None)
    net.eval()
    gaps = []
    for part in parts:
        theirs = net.teacher_relations(*part.values())
        gaps.append(net.apart(net.sizes[5], theirs, *part.values()))
    torch.testing.assert_close(net.losses[5], (gaps[0] + 2 * gaps[1]).detach() / 3)
    assert abs(gaps[0] - gaps[1]) > 0.01


def test_before_a_search_the_largest_that_the_cap_allows_is_chosen():
    counts = model().counts
    net = model(most_parameters=counts[6])
    assert net.allowed == [0, 1, 2, 3, 4, 5, 6]  # the cap itself is allowed
    assert int(net.chosen) == 6
    assert net.choice == net.sizes[6]


def test_alone_is_of_the_chosen_one():
    net = model()
    net.chosen.fill_(4)
    enter(net, "alone")
    found = net.loss(**GENERAL)["loss_alone"]
    theirs = net.teacher_relations(**GENERAL_ARGS)
    wanted, largest = (
        net.apart(size, theirs, *GENERAL.values()) for size in (net.sizes[4], FULL)
    )
    torch.testing.assert_close(found, wanted)
    assert abs(found - largest) > 1e-3


def test_weights_that_have_begun_are_not_begun_again():
    net = model()
    enter(net, "distill")
    net.start_stage("distill", None, None)
    net.forward("loss", **GENERAL)
    with torch.no_grad():
        net.student.words.weight.add_(1)
    kept = net.student.words.weight.clone()
    net.start_stage("distill", None, None)
    torch.testing.assert_close(net.student.words.weight, kept)


def test_fine_tuning_is_of_the_chosen_one():
    net = model()
    net.chosen.fill_(net.sizes.index(Size(1, 1, 4, 0.5)))
    enter(net, "finetune")
    net.loss(**TASK)["loss_finetune"].backward()
    grad = net.student.words.weight.grad
    assert grad[:, :4].abs().sum() > 0
    assert grad[:, 4:].abs().sum() == 0


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match="no sub-network has at most 10 parameters"):
        model(most_parameters=10)
    with pytest.raises(UserError, match=r"heads=3.* does not fit into"):
        model(space={**SPACE, "heads": (3,)})
    with pytest.raises(UserError, match="vocabularies differ: student 31, teacher 30"):
        AutoDistil(encoder("MaskedLM"), dict(ELASTIC, vocab_size=31), space=SPACE)
    with pytest.raises(UserError, match="relation='cos' is not known"):
        model(relation="cos")
    net = model()
    enter(net, "search")
    with pytest.raises(UserError, match="search has no work_dataloader"):
        net.start_stage("search", None, None)
    other = ElasticEncoder(1, 2, 8, 1.0, 30, 8, 4)
    with pytest.raises(UserError, match=r"A bert of \(2, 2, 8, 1\.0\) is not"):
        other.load_bert(net.teacher.body)
    with pytest.raises(UserError, match="has no classifier"):
        other(**GENERAL)
    with pytest.raises(UserError, match="Texts of 9 tokens"):
        other.inside(torch.ones(1, 9, dtype=torch.long))


def test_paper_config_trains_from_a_folder_and_a_jsonl_file(tmp_path):
    folder = bert_folder(tmp_path, layers=2, width=8)
    lines = [dict(text="good film", label=1), dict(text="bad", pair="film", label=0)]
    for name in ("train", "held_out", "dev_matched"):
        jsonl(tmp_path / f"{name}.jsonl", lines)
    cfg = toy_config("configs/autodistil/paper.py", tmp_path / "run")
    shortened(cfg, tmp_path, folder)
    cfg.model.teacher.pretrained = folder
    cfg.model.student = dict(ELASTIC, vocab_size=9)
    cfg.model.space = SPACE
    net = train(cfg).model
    assert net.progress.stage == "finetune"
    assert (net.losses > 0).all()  # -1 before the search
    assert list((tmp_path / "run").glob("stages/*search/search.csv"))

"""Trans-Encoder: losses by hand, labels, where stages begin, data, the runs."""

import math

import pytest
import torch
from mmengine.config import Config
from torch import nn
from transformers import AutoConfig, AutoModel

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.sentences import (
    ConceptPairs,
    JointTransformer,
    PairText,
    PooledTransformer,
    joined,
    word_vectors,
)
from pld_mmdet.language.scores.metrics import rank_correlation
from pld_mmdet.language.trans_encoder import (
    TransEncoder,
    bi_step_loss,
    cross_step_loss,
)
from tests.language.tiny import bert_folder, body, jsonl, shortened
from tests.toy_run import enter, toy_config, train

CORPUS = dict(type="pld_mmdet.ConceptPairs", part="corpus", size=50)
FAMILY = dict(
    bi=dict(type="pld_mmdet.MeanOfWords", corpus=CORPUS, width=4),
    cross=dict(type="pld_mmdet.AlignedWords", corpus=CORPUS, width=4),
)


def model(families=1, **options) -> TransEncoder:
    torch.manual_seed(0)
    return TransEncoder([FAMILY] * families, **{"pairs": 6, "min_std": 0, **options})


def pairs(both_orders=False) -> list[dict]:
    data = ConceptPairs("train", 6, both_orders=both_orders)
    return [torch.utils.data.default_collate(list(data))]


def test_numbers_by_hand():
    def one(*numbers):
        return torch.tensor(numbers, dtype=torch.float64)

    for y, value in ((0.8, 0.614355), (-0.2, 0.914355)):
        loss = cross_step_loss(one(0.3), one(y))
        assert loss.item() == pytest.approx(value, abs=1e-6)
    assert cross_step_loss(one(-0.4), one(0.25)).item() == pytest.approx(
        0.613015, abs=1e-6
    )
    found = bi_step_loss(one(1, 0)[None], one(1, 1)[None], one(0.9))
    assert found.item() == pytest.approx(0.037208, abs=1e-6)
    # two pairs: the mean; the second is opposite, cos = -1
    two = bi_step_loss(
        torch.stack([one(1, 0), one(2, 0)]), torch.stack([one(1, 1), one(-3, 0)]),
        one(0.9, 0.5),
    )  # fmt: skip
    assert two.item() == pytest.approx((0.037208 + 2.25) / 2, abs=1e-6)


def test_gradients_and_where_the_least_is():
    logit = torch.tensor([0.3], requires_grad=True)
    cross_step_loss(logit, torch.tensor([0.8])).backward()
    assert logit.grad.item() == pytest.approx(-0.225557, abs=1e-6)
    best = torch.tensor([math.log(0.8 / 0.2)], requires_grad=True)
    cross_step_loss(best, torch.tensor([0.8])).backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-6)


def test_no_pair_costs_nothing_and_shapes_are_looked_at():
    a = torch.zeros(0, 3, requires_grad=True)
    bi_step_loss(a, torch.zeros(0, 3), torch.zeros(0)).backward()
    assert a.grad.shape == (0, 3)
    z = torch.zeros(0, requires_grad=True)
    assert cross_step_loss(z, torch.zeros(0)).item() == 0
    with pytest.raises(UserError, match=r"logits \(2,\), target \(1,\)"):
        cross_step_loss(torch.zeros(2), torch.zeros(1))
    with pytest.raises(UserError, match=r"cosine \(2,\), target \(2, 1\)"):
        bi_step_loss(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 1))


def test_labels_are_cosines_then_probabilities_and_the_labeller_stays():
    net = model()
    before = {k: v.clone() for k, v in net.state_dict().items() if k != "labels"}
    (batch,) = pairs()
    enter(net, "cross_1")
    net.start_stage("cross_1", [batch], None)
    u, v = (
        net.bi[0](batch[side], batch[f"{side}_mask"]) for side in ("first", "second")
    )
    torch.testing.assert_close(net.labels, torch.cosine_similarity(u, v).detach())
    enter(net, "bi_1")
    net.start_stage("bi_1", [batch], None)
    logits = net.outputs(**batch) if net.predict_on == "cross" else None
    assert logits is None
    net.predict_on = "cross"
    torch.testing.assert_close(net.labels, net.outputs(**batch).detach())
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_the_cross_encoder_answers_with_a_probability():
    net = model(predict_on="cross")
    (batch,) = pairs()
    sides = [batch[k] for k in ("first", "first_mask", "second", "second_mask")]
    logits = net.cross[0](*sides)
    assert (logits.abs() > 0.01).any()
    torch.testing.assert_close(net.outputs(**batch), 1 / (1 + (-logits).exp()))


def test_the_rivals_labels_are_its_own_cosines_and_the_truth():
    (batch,) = pairs()
    net = model(bi_learns_from="bi")
    enter(net, "bi_1")
    net.train()
    plain, modes = net.scores, []
    net.scores = lambda *a, **k: modes.append(net.training) or plain(*a, **k)
    net.start_stage("bi_1", [batch], None)
    assert modes == [False]
    torch.testing.assert_close(net.labels, plain("bi", 0, **batch).detach())
    told = model(bi_learns_from="truth")
    enter(told, "bi_1")
    told.start_stage("bi_1", None, None)  # nothing to label
    given = dict(batch, targets=torch.linspace(0, 0.5, 6))
    found = told.loss(**given)["loss_bi_0"]
    wanted = (told.scores("bi", 0, **batch) - given["targets"]).square().mean()
    torch.testing.assert_close(found, wanted)


def test_the_second_family_answers_where_it_is_asked_for():
    net = model(families=2, family=1)
    (batch,) = pairs()
    with torch.no_grad():
        net.bi[1].body.weight.add_(torch.randn_like(net.bi[1].body.weight))
    first, second = (net.scores("bi", place, **batch) for place in (0, 1))
    assert (first - second).abs().max() > 1e-2
    torch.testing.assert_close(net.outputs(**batch), second)
    (found,) = net.predict(**batch)
    torch.testing.assert_close(found["scores"], second)


def test_two_families_learn_the_mean():
    net = model(families=2)
    (batch,) = pairs()
    with torch.no_grad():
        net.bi[1].body.weight.add_(torch.randn_like(net.bi[1].body.weight))
    enter(net, "cross_1")
    net.start_stage("cross_1", [batch], None)
    both = torch.stack([net.scores("bi", place, **batch) for place in (0, 1)])
    assert (both[0] - both[1]).abs().max() > 1e-2
    torch.testing.assert_close(net.labels, both.mean(0).detach(), atol=1e-7, rtol=0)
    found = net.loss(**batch)
    assert {"loss_cross_0", "loss_cross_1", "label_std"} == set(found)


def test_each_cycle_begins_with_the_first_weights():
    net = model()
    batches = pairs()
    first = [{k: v.clone() for k, v in n.state_dict().items()} for n in net.cross]
    for cycle in (1, 2):
        enter(net, f"cross_{cycle}")
        net.start_stage(f"cross_{cycle}", batches, None)
        assert all(
            torch.equal(v, first[0][k]) for k, v in net.cross[0].state_dict().items()
        )
        with torch.no_grad():
            net.cross[0].body.weight.add_(1)
    carried = model(begin="carry")
    with torch.no_grad():
        carried.bi[0].body.weight.add_(0.5)
    enter(carried, "cross_1")
    carried.start_stage("cross_1", batches, None)
    assert torch.equal(carried.cross[0].body.weight, carried.bi[0].body.weight)
    with torch.no_grad():
        carried.cross[0].body.weight.add_(0.5)
    enter(carried, "bi_1")
    carried.start_stage("bi_1", batches, None)
    assert torch.equal(carried.bi[0].body.weight, carried.cross[0].body.weight)


@pytest.mark.parametrize("stage", ["cross_1", "bi_2"])
def test_a_stage_trains_one_kind(stage):
    net = model()
    (batch,) = pairs()
    enter(net, stage)
    net.start_stage(stage, [batch], None)
    kind = stage[:-2]
    net.loss(**batch)[f"loss_{kind}_0"].backward()
    got = {n.partition(".")[0] for n, p in net.named_parameters() if p.grad is not None}
    assert got == {kind}


def test_both_orders_share_a_label():
    data = ConceptPairs("train", 6, both_orders=True)
    assert len(data) == 12
    assert torch.equal(data[2]["first"], data[8]["second"])
    assert data[2]["index"] == data[8]["index"] == 2
    both = pairs(both_orders=True)[0]
    net = model()
    enter(net, "cross_1")
    net.start_stage("cross_1", pairs(), None)
    wanted = nn.functional.binary_cross_entropy_with_logits(
        net.cross[0](
            *(both[k] for k in ("first", "first_mask", "second", "second_mask"))
        ),
        torch.cat([net.labels, net.labels]),
    )
    torch.testing.assert_close(net.loss(**both)["loss_cross_0"], wanted)


def test_similarity_is_the_share_of_common_concepts():
    data = ConceptPairs("val", 200)
    concepts = [(x[:, 1:-1] - 4) // 3 for x in (data.first, data.second)]
    for one, two, share in zip(*concepts, data.similarity, strict=True):
        common = set(one.tolist()) & set(two.tolist())
        assert len(common) == round(float(share) * 6)


def test_synonyms_have_like_vectors():
    data = ConceptPairs("corpus", 3000)
    vectors = word_vectors(data.sentences, data.vocab_size, 24)
    unit = nn.functional.normalize(vectors[4:], dim=1)
    cosine = (unit @ unit.T).view(30, 3, 30, 3)
    same = torch.stack([cosine[i, 0, i, 1] for i in range(30)]).mean()
    assert same > cosine[:, 0, :, 1].mean() + 0.3


def test_sentences_are_joined_as_a_tokenizer_does():
    ids = torch.tensor([[2, 5, 3, 0], [2, 6, 7, 3]])
    other = torch.tensor([[2, 8, 9, 3], [2, 5, 3, 0]])
    mask = (other > 0).long()
    mask[:, 0] = 0
    found = joined(ids, (ids > 0).long(), other, mask)
    assert found[0][0, :6].tolist() == [2, 5, 3, 8, 9, 3]
    assert found[1].sum(1).tolist() == [6, 6]
    assert found[2][0, :6].tolist() == [0, 0, 0, 1, 1, 1]
    torch.manual_seed(0)
    small = body(1, 8)
    net = JointTransformer(config=small).eval()
    asked = [ids[:1], (ids[:1] > 0).long(), other[:1], (other[:1] > 0).long()]
    whole = torch.tensor([[2, 5, 3, 8, 9, 3]])
    types = torch.tensor([[0, 0, 0, 1, 1, 1]])
    wanted = net.model(input_ids=whole, token_type_ids=types).logits[:, 0]
    torch.testing.assert_close(net(*asked), wanted)
    with pytest.raises(UserError, match=r"Texts of 10 tokens, .* has 8 positions"):
        net(*(x.repeat(1, 2)[:, :5] for x in asked))
    bi = PooledTransformer(config=small, pooling="mean").eval()
    mean = bi.body(input_ids=ids[:1, :3]).last_hidden_state.mean(1)
    torch.testing.assert_close(bi(asked[0], asked[1]), mean)


def test_ranks_by_hand():
    a = torch.tensor([3.0, 1.0, 1.0, 8.0])
    # ranks 3, 1.5, 1.5, 4 against 2, 1, 3, 4
    b = torch.tensor([0.2, 0.1, 0.3, 0.4])
    assert rank_correlation(a, b) == pytest.approx(3 / math.sqrt(4.5 * 5))
    assert rank_correlation(a, torch.ones(4)) == 0


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(UserError, match="family 1 of 1"):
        model(family=1)
    with pytest.raises(UserError, match="begin='new' is not known"):
        model(begin="new")
    net = model(min_std=0.02)
    enter(net, "cross_1")
    with pytest.raises(UserError, match="cross_1 has no work_dataloader"):
        net.start_stage("cross_1", None, None)
    with pytest.raises(UserError, match="pairs of this batch have no label"):
        net.loss(**pairs()[0])
    for count in (5, 7):
        other = model(pairs=count)
        enter(other, "cross_1")
        with pytest.raises(UserError, match=f"pairs={count} is not the number"):
            other.start_stage("cross_1", pairs(), None)
    with torch.no_grad():
        net.bi[0].body.weight.fill_(1)
        net.first_weights["bi"].network[0].body.weight.fill_(1)
    with pytest.raises(UserError, match="are all alike"):
        net.start_stage("cross_1", pairs(), None)
    net.min_std = 0.0  # trains anyway
    net.start_stage("cross_1", pairs(), None)
    with pytest.raises(UserError, match="no stage 'teacher'"):
        net.check_stage("teacher")


def test_paper_config_trains_from_folders_and_a_jsonl_file(tmp_path):
    folder = bert_folder(tmp_path, layers=1)
    lines = [
        dict(text=one, pair=two, label=score)
        for one, two, score in (
            ("good film", "bad", 1),
            ("so", "so", 5),
            ("bad", "so", 2),
        )
    ]
    for part in ("pairs", "dev", "test"):
        jsonl(tmp_path / f"{part}.jsonl", lines)
    cfg = toy_config("configs/trans_encoder/paper.py", tmp_path / "run")
    shortened(cfg, tmp_path, folder)
    (family,) = cfg.model.families
    small = AutoConfig.for_model(
        **body(1, 8, vocab_size=9, type_vocab_size=1, max_position_embeddings=16)
    )
    for name in ("bi", "cross"):
        AutoModel.from_config(small).save_pretrained(tmp_path / name)
        family[name].pretrained = str(tmp_path / name)
    family.cross.between = 3
    cfg.model.update(pairs=3, min_std=0)
    net = train(cfg).model
    assert net.progress.stage == "bi_3"
    assert (net.labels > 0).all()
    jsonl(tmp_path / "bad.jsonl", [dict(text="good")])
    with pytest.raises(UserError, match=r"Line 1 of .*bad\.jsonl .*no 'pair'"):
        PairText(ann_file="bad.jsonl", data_root=str(tmp_path), tokenizer=folder)


def test_rows_have_one_trained_stage_where_they_say_so():
    rows = {
        r.name: r
        for r in Config.fromfile("configs/trans_encoder/toy.py").experiment.rows
    }
    assert [o for o in rows["own"].options if "stages.3" in o] == []
    assert len([o for o in rows["own"].options if "max_iters=0" in o]) == 3

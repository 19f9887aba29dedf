"""I2D2: NeuroLogic by hand, what is kept, the world's statements, rounds, files."""

import json
import math

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.world import (
    FactWorld,
    StatementMetric,
    WorldPrompts,
    WorldStatements,
    statement,
    words_of,
)
from pld_mmdet.language.decoding.neurologic import (
    Constraints,
    neurologic,
    neurologic_score,
)
from pld_mmdet.registry import MODELS
from tests.toy_run import enter, toy_config, train

STOP = 0


class Chain(nn.Module):
    """Next-token log-probabilities that depend on the last token alone."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.tensor(table).log()

    def forward(self, ids):
        return self.table[ids]


#: From each of 4 tokens to the end (0) and the others.
TABLE = [
    [1.0, 0.0, 0.0, 0.0],
    [0.1, 0.2, 0.4, 0.3],
    [0.5, 0.1, 0.1, 0.3],
    [0.6, 0.1, 0.1, 0.2],
]
PROMPT = torch.tensor([1])


def decode(constraints=None, **more):
    more = dict(new_tokens=4, stop=STOP, length_penalty=0.0) | more
    return neurologic(Chain(TABLE), PROMPT, constraints or Constraints(), **more)


def test_the_score_by_hand():
    found = neurologic_score(-3.0, 3, 0.5, 0.5)
    assert found == pytest.approx(-0.403426, abs=1e-6)
    found = neurologic_score(-3.0, 3, 0.5, 0.5, rewarded=True)
    assert found == pytest.approx(-1.096574, abs=1e-6)
    assert neurologic_score(-3.0, 3, 0.5, 0.0) == -0.75
    assert neurologic_score(-3.0, 3, 0.0, 0.5) == -0.75


def test_one_hypothesis_without_constraints_is_greedy():
    found = decode(beam=1)
    assert [h.ids for h in found] == [[2]]
    assert found[0].log_prob == pytest.approx(math.log(0.4 * 0.5))
    # more hypotheses find what is likeliest as a whole, in order
    found = decode(beam=3)
    told = {tuple(h.ids): math.exp(h.log_prob) for h in found}
    assert told[2,] == pytest.approx(0.2)
    assert told[3,] == pytest.approx(0.18)
    assert [h.log_prob for h in found] == sorted(h.log_prob for h in found)[::-1]


def test_the_last_token_is_the_end_and_length_is_paid_for():
    """From 1: the end .1; 2 and the end .4 x .5; 3 and the end .3 x .6."""
    (found,) = decode(beam=1, new_tokens=1)
    assert found.ids == []
    assert found.log_prob == pytest.approx(math.log(0.1))
    found = decode(beam=9, new_tokens=2, length_penalty=1.0)
    ranks = {tuple(h.ids): h.rank for h in found}
    assert ranks[()] == pytest.approx(math.log(0.1))
    assert ranks[2,] == pytest.approx(math.log(0.2) / 2)
    assert {len(ids) for ids in ranks} == {0, 1}
    (one,) = decode(beam=1, new_tokens=2, length_penalty=0.2)
    assert one.rank == pytest.approx(math.log(0.2) / 2**0.2)


def test_nothing_forbidden_is_written():
    constraints = Constraints(
        forbidden=((2,), (3, 3)), at_most=((frozenset({1, 3}), 2),)
    )
    found = decode(constraints, beam=10)
    assert found
    for one in found:
        assert not constraints.broken(one.ids)
        assert 2 not in one.ids
        assert sum(k in (1, 3) for k in one.ids) <= 2
    assert constraints.broken([3, 3])
    assert constraints.broken([1, 3, 1])
    assert not constraints.broken([1, 3])
    nothing = Constraints(forbidden=tuple((k,) for k in range(4)))
    assert decode(nothing, beam=3) == []


def test_a_begun_phrase_counts_by_beta():
    """3 begins (3, 2): log .3 - .5 log .5 is above 2, log .4; with beta 0 below."""
    constraints = Constraints(clauses=(((3, 2),),))
    for beta, ids in ((0.0, [2]), (0.5, [3])):
        (found,) = decode(constraints, beam=1, new_tokens=2, prune=9, beta=beta)
        assert found.ids == ids


def test_wanted_phrases_come_first():
    constraints = Constraints(clauses=(((3, 2), (1, 1, 1)), ((2,),)))
    assert constraints.met([3, 2]) == {0, 1}
    assert constraints.met([2]) == {1}
    assert constraints.progress([1, 1], frozenset({1})) == (
        pytest.approx(2 / 3),
        {3, 1},
    )
    assert constraints.progress([3], frozenset({1})) == (0.5, {2, 1})
    assert constraints.progress([], frozenset({0, 1})) == (1.0, set())
    found = decode(constraints, beam=4)
    assert found[0].met == {0, 1}
    assert found[0].ids == [3, 2]
    assert [len(h.met) for h in found] == sorted(len(h.met) for h in found)[::-1]
    # a token for a phrase has to be among the likeliest: 3 has the second dense rank
    wanted = Constraints(clauses=(((3,),),))
    for prune, ids in ((1, [2]), (2, [2]), (3, [3])):
        alone = decode(wanted, beam=1, prune=prune, tolerance=0)
        assert [h.ids for h in alone] == [ids]
    with pytest.raises(UserError, match="beam=0"):
        decode(beam=0)


def test_the_world_knows_what_is_true():
    world = FactWorld(synonyms=2, kinds=4)
    same = (world.truth[0] == world.truth[4]).float().mean()
    assert same > 0.7
    data = WorldStatements("train", 300, synonyms=2, kinds=4, labelled=True)
    told = [statement(world, text) for text, _ in data.samples]
    assert all(one is not None for one in told)
    assert [one[2] for one in told] == [bool(data[i]["targets"]) for i in range(300)]
    assert 0.45 < sum(one[2] for one in told) / 300 < 0.65
    assert statement(world, "hello") is None
    prompts = WorldPrompts("train", 31, synonyms=2)
    assert prompts[30]["concept"] == prompts[0]["concept"]
    assert prompts[2]["text"].split()[1] in prompts[2]["concept"].split()
    assert len(words_of("nx", synonyms=2)) == 4


def test_truth_and_recall_by_hand():
    world = FactWorld(synonyms=2, kinds=4)
    say = torch.Generator().manual_seed(0)
    true, false = world.truth.nonzero(), (~world.truth).nonzero()
    (c, p), (d, q) = true[3].tolist(), true[9].tolist()
    texts = [world.say("qcrp", dict(c=c, p=p), say) for _ in range(2)]
    texts += [world.say("qcrp", dict(c=d, p=q), say)]
    c, p = false[5].tolist()
    texts += [world.say("qcrp", dict(c=c, p=p), say)]
    texts += [world.say("qcrnp", dict(c=c, p=p), say)]  # true, but no fact
    texts += ["nonsense"]
    metric = StatementMetric(world=dict(synonyms=2, kinds=4))
    metric.process({}, [dict(texts=texts[:4]), dict(texts=texts[4:])])
    found = metric.compute_metrics(metric.results)
    assert found["truth"] == pytest.approx(4 / 6)
    assert found["recall"] == pytest.approx(2 / len(true))
    assert found["statements"] == 6
    assert metric.compute_metrics([])["truth"] == 0


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return MODELS.build(toy_config("configs/i2d2/toy.py", tmp_path).model).eval()


def test_a_round_keeps_what_the_critic_lets_pass(model, tmp_path):
    scores = {"a": 0.9, "b": 0.8, "c": 0.55, "d": 0.2}
    model.threshold, folder = 0.6, tmp_path / "02_round_1"
    model.constrained = lambda prompt, concept: ["a", "a", "c", "d"]
    model.valid = lambda texts: [scores[t] for t in texts]
    batch = dict(text=["x"], concept=["y"])
    folder.mkdir()
    model.start_stage("round_1", [batch, batch], folder)
    told = [
        json.loads(x)
        for x in (folder / "statements.jsonl").read_text().split("\n")
        if x
    ]
    assert told == [dict(prompt="x", text="a", valid=0.9)]  # 1 of 4, each once
    model.threshold = 0.55  # c has it: kept
    model.start_stage("round_1", [batch], folder)
    assert len((folder / "statements.jsonl").read_text().splitlines()) == 2
    model.threshold = 0.6
    model.start_stage("round_1", [batch, batch], folder)
    model.threshold = 1.01
    with pytest.raises(UserError, match="none of 8 statements of stage round_1"):
        model.start_stage("round_1", [batch, batch], folder)
    later, model.threshold = tmp_path / "03_round_2", 0.85
    later.mkdir()
    model.constrained = lambda prompt, concept: ["b", "a"]
    model.start_stage("round_2", [dict(text=["z"])], later)
    (alone,) = (later / "statements.jsonl").read_text().splitlines()
    assert json.loads(alone)["prompt"] == "z"
    model.accumulate = True
    model.start_stage("round_2", [dict(text=["z"])], later)
    lines = (later / "statements.jsonl").read_text().splitlines()
    assert [json.loads(x)["prompt"] for x in lines] == ["x", "z"]
    model.start_stage("round_3", None, tmp_path / "none")  # nothing to do


def test_constrained_statements_keep_to_the_lists(model):
    prompts = WorldPrompts("train", 3, synonyms=2)
    for sample in (prompts[i] for i in range(3)):
        told = model.constrained(sample["text"], sample["concept"])
        assert told
        assert len(set(told)) == len(told)
        for text in told:
            assert text.startswith(sample["text"])
            rest = text.split()[3:]
            assert not set(rest) & {*words_of("nx", synonyms=2)}
            assert not set(rest) & {*sample["concept"].split()}
            assert sum(w in words_of("qrlo", synonyms=2) for w in rest) <= 1
    assert model.valid([]) == []
    p = model.valid(told)
    model.threshold = sorted(p)[len(p) // 2]
    model.predict_on = "constrained_critic"
    batch = dict(text=[sample["text"]] * 2, concept=[sample["concept"]] * 2)
    found = model.predict(**batch, index=torch.arange(2))[0]["texts"]
    assert found == [
        t for t, one in zip(told, p, strict=True) if one >= model.threshold
    ]


def test_the_concept_is_forbidden_behind_it_unless_said_otherwise(model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pld_mmdet.language.i2d2.neurologic",
        lambda network, ids, constraints, *_, **__: seen.append(constraints) or [],
    )
    sample = WorldPrompts("train", 1, synonyms=2)[0]
    own = {p for word in sample["concept"].split() for p in model._phrases(word)}
    assert own
    model.constrained(sample["text"], sample["concept"])
    model.concept_once = False
    model.constrained(sample["text"], sample["concept"])
    assert [own <= set(one.forbidden) for one in seen] == [True, False]
    assert all(set(model.forbidden) <= set(one.forbidden) for one in seen)


def test_the_critic_says_valid_by_its_second_class_and_reads_to_the_end(model):
    read = []

    class Critic(nn.Module):
        def forward(self, ids, mask):
            read.append((ids, mask))
            return torch.tensor([[0.0, 2.0], [1.0, 0.0]])

    model.critic = Critic()
    texts = [text for text, _ in WorldStatements("val", 2, synonyms=2).samples]
    # 1 / (1 + exp -2), 1 / (1 + e)
    assert model.valid(texts) == pytest.approx([0.880797, 0.268941], abs=1e-5)
    ids, mask = read[0]
    ends = ids.gather(1, mask.sum(1, keepdim=True) - 1)
    assert (ends == model.words.eos_token_id).all()


def test_the_generator_learns_prompt_statement_and_end(model):
    enter(model, "round_1")
    texts = [text for text, _ in WorldStatements("val", 9, synonyms=2).samples]
    lengths = [len(model.words.encode(t, add_special_tokens=False)) for t in texts]
    assert len(set(lengths)) > 1
    found = model.loss(text=texts)["loss_lm"]
    total = 0.0
    for text in texts:
        ids = model.words.encode(text, add_special_tokens=False)
        ids = torch.tensor([model.words.bos_token_id, *ids, model.words.eos_token_id])
        log_p = model.generator(ids[None])[0].log_softmax(-1)
        total = total - log_p[:-1].gather(1, ids[1:, None]).sum()
    wanted = total / sum(n + 1 for n in lengths)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_each_batch_of_prompts_is_sampled_by_a_seed_of_its_own(model):
    prompts = WorldPrompts("val", 8, synonyms=2)
    text = [prompts[i]["text"] for i in range(8)]
    answers = [
        model.predict(text=text, index=torch.arange(8) + first)[0]["texts"]
        for first in (0, 0, 8)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_one_of_two_networks_learns(model):
    texts = [text for text, _ in WorldStatements("val", 4, synonyms=2).samples]
    for stage, learner, other in (
        ("corpus", model.generator, model.critic),
        ("critic", model.critic, model.generator),
        ("round_2", model.generator, model.critic),
    ):
        enter(model, stage)
        model.train()
        assert model.critic.training == (stage == "critic")
        assert all(p.requires_grad for p in learner.parameters())
        assert not any(p.requires_grad for p in other.parameters())
        losses = model.loss(text=texts, targets=torch.tensor([0, 1, 1, 0]))
        sum(losses.values()).backward()
        assert any(p.grad is not None for p in learner.parameters())
        assert all(p.grad is None for p in other.parameters())
    with pytest.raises(UserError, match="predict_on='hope'"):
        MODELS.build(
            dict(type="pld_mmdet.I2D2", generator={}, critic={}, words={})
            | dict(predict_on="hope")
        )


def test_paper_config_trains_from_folders_and_jsonl(tmp_path):
    words = ["<unk>", "<pad>", "</s>", "birds", "can", "fly", "not", "swim", "and"]
    words = {w: i for i, w in enumerate([*words, "the", "of"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = dict(unk_token="<unk>", pad_token="<pad>", eos_token="</s>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        tmp_path / "words"
    )
    gpt2 = dict(vocab_size=11, n_embd=8, n_layer=1, n_head=2, n_positions=24)
    config = AutoConfig.for_model("gpt2", **gpt2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    sizes = dict(vocab_size=11, hidden_size=8, intermediate_size=8, pad_token_id=1)
    sizes |= dict(num_hidden_layers=1, num_attention_heads=2, num_labels=2)
    config = AutoConfig.for_model("roberta", **sizes, max_position_embeddings=300)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(
        tmp_path / "roberta"
    )
    (tmp_path / "prompts.jsonl").write_text(
        '{"text": "birds can", "concept": "birds"}\n' * 2
    )
    (tmp_path / "labels.jsonl").write_text(
        '{"text": "birds can fly", "label": 1}\n{"text": "birds fly", "label": 0}\n'
    )
    cfg = toy_config("configs/i2d2/paper.py", tmp_path / "run", walk=False)
    cfg.train_cfg.stages = cfg.train_cfg.stages[:2]
    cfg.train_dataloader.dataset.update(
        data_root=str(tmp_path), tokenizer=f"{tmp_path}/words", max_length=8
    )
    stages = cfg.train_cfg.stages
    stages[1].work_dataloader.dataset.data_root = str(tmp_path)
    loaders = (cfg.train_dataloader, stages[1].dataloader, stages[1].work_dataloader)
    for part in loaders:
        part.batch_size = 2
    for stage in stages:
        stage.max_iters = 1
    cfg.model.update(words=f"{tmp_path}/words", critic_words=f"{tmp_path}/words")
    cfg.model.generator.pretrained = str(tmp_path / "gpt2")
    cfg.model.critic.pretrained = str(tmp_path / "roberta")
    cfg.model.update(threshold=0.0, new_tokens=4, decoder=dict(beam=3))
    model = train(cfg).model
    path = tmp_path / "run/stages/01_round_1/statements.jsonl"
    told = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    assert told
    for text in told:
        assert text.startswith("birds can ")
        assert not {"not", "and", "birds"} & {*text.split()[2:]}
    assert model.forbidden.count((6,)) == 1

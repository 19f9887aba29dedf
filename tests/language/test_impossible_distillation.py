"""Impossible Distillation: filters by hand, sampling, the world, stages, files."""

import json
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pld_mmdet.errors import UserError
from pld_mmdet.language.data.lines import TextLines
from pld_mmdet.language.data.world import (
    FactWorld,
    RewordingMetric,
    WorldDocuments,
    WorldEntailment,
)
from pld_mmdet.language.decoding.sampling import sample
from pld_mmdet.language.impossible_distillation import duplicate_groups, rouge_l
from pld_mmdet.language.scores.pair_filters import (
    Pair,
    PairFilter,
    full_sentence,
    numbers,
    sentences,
)
from pld_mmdet.registry import MODELS
from tests.toy_run import toy_config, train


def alike(scores):
    """A critic that says these probabilities, pair by pair, and 0.1 elsewhere."""

    def entails(premises, hypotheses):
        found = [scores.get(two, 0.1) for two in zip(premises, hypotheses, strict=True)]
        return torch.tensor([(p, float(p > 0.5)) for p in found]).view(-1, 2)

    return entails


def test_rouge_by_hand():
    for a, b, value in (
        ("abcd", "acde", 0.75),
        ("abcd", "abce", 0.75),
        ("abcde", "abcdf", 0.8),
        ("abcdef", "bdf", 2 / 3),
        ("ab", "ab", 1),
        ("a", "b", 0),
        ("", "a", 0),
        ("", "", 0),
    ):
        assert rouge_l(list(a), list(b)) == pytest.approx(value)
        assert rouge_l(list(b), list(a)) == pytest.approx(value)
    with pytest.raises(UserError, match="was given a text"):
        rouge_l("a b", ["a"])


def test_duplicate_groups_by_hand():
    e = torch.zeros(5, 5, dtype=torch.bool)
    e[3, 1] = e[3, 4] = True  # a chain 1 - 3 - 4, in either direction
    assert duplicate_groups(e).tolist() == [0, 1, 2, 1, 1]
    assert duplicate_groups(e.T).tolist() == [0, 1, 2, 1, 1]
    e[4, 0] = True
    assert duplicate_groups(e).tolist() == [0, 0, 1, 0, 0]
    assert duplicate_groups(torch.eye(3).bool()).tolist() == [0, 1, 2]
    assert duplicate_groups(torch.zeros(0, 0).bool()).tolist() == []
    with pytest.raises(UserError, match=r"\(2, 3\) is not"):
        duplicate_groups(torch.zeros(2, 3).bool())


def test_candidates_and_length():
    places = [pair.places for pair in PairFilter.candidates(list("abcd"))]
    assert places == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    source = "s" * 100
    for length, passes in ((79, 0), (80, 1), (150, 1), (151, 0)):
        target = "t" * length
        both = alike({(source, target): 0.8, (target, source): 0.8})
        assert PairFilter().accepts(source, target, both) == bool(passes)


def test_every_filter_rejects_what_it_is_for():
    a, b = "in 12 days a cat came.", "the tom came in 12 days."
    both = {(a, b): 0.75, (b, a): 0.75}
    assert PairFilter().accepts(a, b, alike(both))
    assert not PairFilter().accepts(a, b, alike({**both, (b, a): 0.74}))
    assert not PairFilter().accepts(a, b, alike({**both, (a, b): 0.74}))
    other = "the tom came in some days."  # a number that only the source has
    assert not PairFilter().accepts(a, other, alike({(a, other): 1, (other, a): 1}))
    assert not PairFilter().accepts(a, a, alike({(a, a): 1}))
    assert numbers("1,200 and 3.5 at 7.") == {"1,200", "3.5", "7"}


def test_of_equivalent_sources_the_pair_least_entailed_back_stays():
    a, b, c = "one two three.", "four five six.", "seven eight nine."
    scores = {(x, y): 0.9 for x in (a, b, c) for y in (a, b, c)}
    scores[b, a] = 0.95  # the pair (a, b) backwards; (a, c) and (b, c): 0.9, 0.8
    scores[c, b] = 0.8
    counts = Counter()
    pairs = PairFilter().bootstrap([a, b, c], alike(scores), counts)
    assert [(p.source, p.target) for p in pairs] == [(b, c)]
    assert counts == dict(
        {"all": 3, "length": 3, "entailment": 3, "distinct": 1, "numbers": 1},
        **{"ROUGE-L": 1},
    )
    # a alone, b = c: two groups of sources, of targets one
    apart = {**scores, (a, b): 0.8, (b, a): 0.8, (a, c): 0.1, (c, a): 0.1}
    pairs = PairFilter().bootstrap([a, b, c], alike(apart), Counter())
    assert len(pairs) == 1
    assert PairFilter().bootstrap([], alike({}), Counter()) == []


def test_of_equivalent_targets_too_and_by_what_is_likeliest():
    a, b, c, d = "one two three.", "four five six.", "seven eight nine.", "ten one six."
    # two sources that share nothing, one target: backwards .9 and .8
    scores = {(a, c): 0.9, (c, a): 0.9, (b, c): 0.9, (c, b): 0.8}
    pairs = PairFilter().bootstrap([a, b, c], alike(scores), Counter())
    assert [(p.source, p.target) for p in pairs] == [(b, c)]
    # .6 joins two sources (the arg max), though it is below .75
    scores = {(a, c): 0.9, (c, a): 0.8, (b, d): 0.9, (d, b): 0.9, (a, b): 0.6}
    pairs = PairFilter().bootstrap([a, b, c, d], alike(scores), Counter())
    assert [(p.source, p.target) for p in pairs] == [(a, c)]
    del scores[a, b]
    assert len(PairFilter().bootstrap([a, b, c, d], alike(scores), Counter())) == 2


def test_an_overlap_of_three_quarters_is_allowed():
    source, target = "a b c d.", "a c d e."
    both = alike({(source, target): 0.9, (target, source): 0.9})
    assert PairFilter().accepts(source, target, both)
    assert not PairFilter(rouge=0.74).accepts(source, target, both)


def test_a_later_stage_keeps_the_least_overlap():
    source, texts = "a b c d e.", ["a b c f g.", "a h i j k.", "x y z v w."]
    scores = {(source, t): 0.9 for t in texts[:2]} | {(t, source): 0.9 for t in texts}
    found = PairFilter().refine(source, texts, alike(scores), Counter())
    assert [pair.target for pair in found] == ["a h i j k."]
    assert found[0].overlap == pytest.approx(0.2)
    assert PairFilter().refine(source, [], alike(scores), Counter()) == []


def test_sentences():
    assert sentences("One. Two?  Three") == ["One.", "Two?", "Three"]
    assert full_sentence("Ab.")
    assert not full_sentence("A.")
    assert not full_sentence("Three")
    assert not full_sentence("a\nb.")


@pytest.fixture(scope="module")
def gpt2():
    torch.manual_seed(0)
    config = dict(model_type="gpt2", n_layer=1, n_head=2, n_positions=16, n_embd=8)
    config |= dict(vocab_size=9, initializer_range=0.5)
    return MODELS.build(dict(type="pld_mmdet.CausalTransformer", config=config))


def test_sampling_keeps_its_cache_right(gpt2):
    gpt2.train()  # dropout is on outside
    prompts = torch.tensor([[0, 3, 4], [0, 0, 5]])
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]])
    before = torch.get_rng_state()
    drawn = sample(gpt2, prompts, 5, seed=(3,), mask=mask)
    assert gpt2.training
    assert torch.equal(torch.get_rng_state(), before)
    again = sample(gpt2, prompts, 5, seed=(3,), mask=mask)
    assert torch.equal(drawn.ids, again.ids)
    gpt2.eval()
    # the second prompt without its padding: positions follow the mask
    for row, prompt in enumerate(([0, 3, 4], [0, 5])):
        whole = torch.cat([torch.tensor(prompt), drawn.ids[row]])[None]
        log_p = gpt2(whole)[0].log_softmax(-1)[len(prompt) - 1 : -1]
        told = log_p.gather(1, drawn.ids[row][:, None]).squeeze(1)
        torch.testing.assert_close(drawn.log_probs[row], told)


def test_the_likeliest_tokens_are_those_of_generate(gpt2):
    prompts, mask = torch.tensor([[0, 3, 4], [0, 0, 5]]), torch.ones(2, 3).long()
    mask[1, 0] = 0
    drawn = sample(gpt2, prompts, 6, seed=(1,), mask=mask, temperature=0, no_repeat=2)
    told = gpt2.model.generate(
        prompts,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=6,
        no_repeat_ngram_size=2,
        pad_token_id=0,
    )
    assert drawn.ids.tolist() == told[:, 3:].tolist()


def test_sampling_stops_bans_and_does_not_repeat(gpt2):
    prompts = torch.zeros(64, 1, dtype=torch.long)
    drawn = sample(gpt2, prompts, 8, seed=(1,), stop=2, banned=[4])
    assert not (drawn.ids == 4).any()
    ended = drawn.lengths < 8
    assert ended.any()
    row = int(ended.nonzero()[0])
    length = int(drawn.lengths[row])
    assert (drawn.ids[row, length - 1 :] == 2).all()
    assert (drawn.ids[row, : length - 1] != 2).all()
    assert (drawn.log_probs[row, length:] == 0).all()
    once = sample(gpt2, prompts, 8, seed=(1,), no_repeat=1).ids
    assert all(len(set(r)) == 8 and 0 not in r for r in once.tolist())
    greedy = sample(gpt2, prompts[:1], 4, seed=(1,), temperature=0)
    narrow = sample(gpt2, prompts[:1], 4, seed=(5,), top_p=1e-6)
    assert torch.equal(greedy.ids, narrow.ids)
    assert sample(gpt2, prompts[:0], 4, seed=(1,)).ids.shape == (0, 0)
    with pytest.raises(UserError, match="given 17 tokens and has 16 positions"):
        sample(gpt2, prompts, 20, seed=(1,))
    with pytest.raises(UserError, match="top_p=0"):
        sample(gpt2, prompts, 4, seed=(1,), top_p=0)


def test_an_answer_of_an_encoder_decoder_has_its_log_probabilities():
    torch.manual_seed(0)
    t5 = dict(model_type="t5", vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1)
    t5 |= dict(num_heads=2, decoder_start_token_id=0, pad_token_id=0)
    t5 = MODELS.build(dict(type="pld_mmdet.Seq2SeqTransformer", config=t5)).eval()
    ids, mask = torch.tensor([[3, 4, 5], [6, 1, 0]]), torch.tensor([[1] * 3, [1, 1, 0]])
    drawn = sample(t5, ids, 4, seed=(2,), mask=mask)
    told = t5(ids, mask, drawn.ids).log_softmax(-1).gather(2, drawn.ids[..., None])
    torch.testing.assert_close(drawn.log_probs, told.squeeze(2))


def test_the_world_reads_what_it_says():
    world = FactWorld(synonyms=2)
    data = WorldDocuments("train", 40, documents=True, synonyms=2)
    told = [sentences(text) for text in data.texts]
    facts = [tuple(map(world.facts, two)) for two in told]
    assert all(None not in two for two in facts)
    assert 0.4 < sum(a == b for a, b in facts) / 40 < 0.8
    assert all(world.truth[a[0], a[1]] for a, _ in facts)
    assert world.decode([1, *world.encode(data.texts[0]), 2, 5]) == data.texts[0]
    oracle = WorldEntailment(synonyms=2)
    answers = oracle(*(list(side) for side in zip(*told, strict=True)))
    assert (answers[:, 1] == 1).tolist() == [a == b for a, b in facts]
    assert world.facts(told[0][0].partition(" ")[2]) is None
    with pytest.raises(UserError, match="no word 'hello'"):
        world.encode("hello")
    with pytest.raises(UserError, match="part='night'"):
        WorldDocuments("night", 1)


def test_rewording_by_hand():
    world = FactWorld(synonyms=2)
    fact = dict(c=3, p=1, w=2, t=4)
    source = " ".join(
        world.words[world.first[k] + 2 * fact.get(k, 0)] for k in "qcrplwot"
    )
    words = source.split()
    words[1] = world.words[world.ids[words[1]] + 1]  # two synonyms
    words[4] = world.words[world.ids[words[4]] + 1]
    wrong = [*words[:3], world.words[world.first["p"]], *words[4:]]  # another property
    metric = RewordingMetric(world=dict(synonyms=2))
    outputs = [f"{' '.join(words)} .", f"{' '.join(wrong)} .", source, ""]
    metric.process({}, [dict(sources=[source] * 4, outputs=outputs)])
    found = metric.compute_metrics(metric.results)
    assert found["preservation"] == 0.5
    assert found["novelty"] == pytest.approx((2 / 8 + 3 / 8) / 4)
    assert found["reworded"] == pytest.approx(2 / 8 / 4)


def test_stages_write_pairs_that_pass_and_say_when_there_are_none(tmp_path):
    cfg = toy_config("configs/impossible_distillation/toy.py", tmp_path / "run")
    runner = train(cfg)
    model, stages = runner.model, tmp_path / "run/stages"
    lines = (stages / "02_student_0/pairs.jsonl").read_text().splitlines()
    assert {"source", "target", "context", "rouge_l"} <= json.loads(lines[0]).keys()
    model.filters, folder = PairFilter(), stages / "03_student_1"
    with pytest.raises(UserError, match="no pair of stage student_1 passed"):
        model.start_stage("student_1", [1], folder)
    with pytest.raises(UserError, match="found no contexts"):
        model.start_stage("student_0", [1], tmp_path / "elsewhere/02_student_0")
    # a model that says the facts again in other words passes
    world, texts = model.lm_words, WorldDocuments("val", 4, synonyms=2).texts
    other = [
        " ".join(world.words[world.ids[w] ^ 1] if w != "." else w for w in t.split())
        for t in texts
    ]
    model.write = lambda source, context, how, seed, count: [
        t for t in other for _ in range(count)
    ]
    rows = [json.dumps(dict(context="x", sentence=t)) for t in texts]
    (stages / "contexts.jsonl").write_text("\n".join(rows))
    model.start_stage("student_1", [1], folder)
    pairs = [json.loads(p) for p in (folder / "pairs.jsonl").read_text().splitlines()]
    assert [(p["source"], p["target"]) for p in pairs] == list(
        zip(texts, other, strict=True)
    )
    for pair in pairs:
        assert model.filters.accepts(pair["source"], pair["target"], model._entails)
    model.enter_stage("lm")
    assert not any(p.requires_grad for p in model.student.parameters())
    model.progress.stage = "lm"
    model.loss(text=texts)["loss_lm"].backward()
    assert all(p.grad is not None for p in model.lm.parameters())


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    cfg = toy_config("configs/impossible_distillation/toy.py", tmp_path)
    made = MODELS.build(cfg.model).eval()
    made.filters = PairFilter()
    return made


def test_contexts_are_what_stands_before_each_full_sentence(model):
    told = ["One two. Three four.", "Five six", "Seven.", "Eight? Nine ten. No"]
    asked = []
    model._continued = lambda *given: asked.append(given) or told
    model.contexts = dict(count=2, new_tokens=7)
    found = model._contexts(dict(text=["p", ""], index=torch.tensor([4, 5])))
    assert asked == [(["p", ""], 2, dict(new_tokens=7), (7, 4, 0))]
    assert [(f["context"], f["sentence"]) for f in found] == [
        ("p", "One two."),
        ("p One two.", "Three four."),
        ("", "Seven."),
        ("", "Eight?"),
        ("Eight?", "Nine ten."),
    ]


def test_first_sentences_are_paired_with_seeds_of_their_own(model):
    rows = [dict(context="x", sentence="S."), dict(context="y", sentence="T.")]
    seeds, seen = [], []

    def continued(prompts, count, how, seed):
        seeds.append((prompts, seed))
        return ["One two. Three four."] * (count - 1) + ["no end"]

    def write(source, context, how, seed, count):
        seeds.append((source, context, seed))
        return ["One two."] * count

    model._continued, model.write = continued, write
    model._filtered = lambda row, own, source, counts: seen.append((own, source)) or []
    model.bootstrap = model.refine = dict(count=3)
    model._bootstrapped(rows, (0, 1), Counter(), batch=0)  # one row at a time
    assert seeds == [(["x"], (0, 1, 0)), (["y"], (0, 1, 1))]
    assert seen == [(["One two."] * 2, None)] * 2
    del seeds[:], seen[:]
    model._refined(rows, (2, 1), Counter(), batch=0)
    assert seeds == [(["S."], ["x"], (2, 1, 0)), (["T."], ["y"], (2, 1, 1))]
    assert seen == [(["One two."] * 3, "S."), (["One two."] * 3, "T.")]


def test_only_stage_0_asks_the_language_model(model, tmp_path):
    (tmp_path / "contexts.jsonl").write_text(
        "\n".join(json.dumps(dict(context="x", sentence=s)) for s in ("a.", "b."))
    )
    asked = []
    model._bootstrapped = lambda rows, *_: asked.append(("lm", len(rows))) or [pair]
    model._refined = lambda rows, *_: asked.append(("student", len(rows))) or [pair]
    pair = Pair("a.", "b.", (0, 1))
    for number in (0, 1, 2):
        (tmp_path / f"0{number}").mkdir()
        model.start_stage(f"student_{number}", [1], tmp_path / f"0{number}")
    assert asked == [("lm", 2), ("student", 2), ("student", 2)]
    for stage, learns in (("lm", True), ("student_1", False)):
        model.enter_stage(stage)
        assert all(p.requires_grad == learns for p in model.lm.parameters())
        assert all(p.requires_grad != learns for p in model.student.parameters())


def test_the_critics_probability_and_its_likeliest_class(model):
    model.critic, model.entailment = (
        lambda *_: torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]),
        1,
    )
    found = model._entails(["a", "b"], ["c", "d"])
    torch.testing.assert_close(found, torch.tensor([[0.5, 1.0], [0.3, 0.0]]))


def test_targets_are_learnt_up_to_their_padding_and_sampled_by_batch(model):
    model.enter_stage("student_0")
    texts = WorldDocuments("val", 6, synonyms=2).texts
    short = [" ".join(text.split()[:3]) for text in texts[3:]]
    both = dict(source=texts[:2], target=[texts[2], short[0]])
    found = model.loss_student(**both)["loss_student"]
    total, count = 0.0, 0
    for one in zip(*both.values(), strict=True):
        length = len(model.student_words.encode(one[1], add_special_tokens=False)) + 1
        alone = model.loss_student(source=[one[0]], target=[one[1]])["loss_student"]
        total, count = total + length * alone, count + length
    torch.testing.assert_close(found, total / count, atol=1e-4, rtol=1e-4)
    seeds = []
    model.write = lambda text, context, how, seed: seeds.append(seed) or text
    model.predict(text=texts, index=torch.arange(6) + 3)
    assert seeds == [(9, 3)]


def test_pairs_are_lines_of_text(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"source": "a", "target": " b "}\n{"source": "c"}\n')
    with pytest.raises(UserError, match="Line 2 of"):
        TextLines(str(path), keys=("source", "target"))
    path.write_text('{"source": "a", "target": " b "}\n')
    data = TextLines(str(path), keys=("source", "target"))
    assert data[0] == dict(source="a", target="b", index=0)
    path.write_text('{"source": "a", "target": " "}\n')
    with pytest.raises(UserError, match="its target is empty"):
        TextLines(str(path), keys=("source", "target"))
    with pytest.raises(UserError, match="does not exist"):
        TextLines("none.jsonl")
    assert Pair("a", "b", (0, 1)).as_dict()["target"] == "b"


def test_paper_config_trains_from_folders_and_jsonl(tmp_path):
    torch.manual_seed(3)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, ".": 3, "news": 4, "a": 5, "b": 6}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = dict(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        tmp_path / "words"
    )
    small = dict(vocab_size=7, num_labels=3)
    for name, kind, auto, more in (
        ("lm", "gpt2", AutoModelForCausalLM, dict(n_embd=8, n_layer=1, n_head=2)),
        (
            "t5",
            "t5",
            AutoModelForSeq2SeqLM,
            dict(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
            | dict(decoder_start_token_id=0),
        ),
        (
            "nli",
            "bert",
            AutoModelForSequenceClassification,
            dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
            | dict(intermediate_size=8),
        ),
    ):
        config = AutoConfig.for_model(kind, **small, **more, pad_token_id=0)
        auto.from_config(config).save_pretrained(tmp_path / name)
    (tmp_path / "prefixes.jsonl").write_text('{"text": "news a b ."}\n' * 4)
    cfg = toy_config(
        "configs/impossible_distillation/paper.py", tmp_path / "run", walk=False
    )
    prefixes = dict(data_root=str(tmp_path), ann_file="prefixes.jsonl")
    loaders = [cfg.train_dataloader]
    for stage in cfg.train_cfg.stages:
        loaders += [stage[k] for k in ("work_dataloader", "dataloader") if k in stage]
    for one in loaders:
        one.update(num_workers=0, batch_size=2, persistent_workers=False)
        if "{folder}" not in one.dataset.ann_file:
            one.dataset.update(prefixes)
    cfg.model.lm.pretrained = str(tmp_path / "lm")
    cfg.model.student.pretrained = str(tmp_path / "t5")
    cfg.model.critic.network.pretrained = str(tmp_path / "nli")
    cfg.model.critic.tokenizer = str(tmp_path / "words")
    cfg.model.update(
        lm_words=str(tmp_path / "words"),
        student_words=str(tmp_path / "words"),
        filters=None,  # random weights entail nothing
        contexts=dict(new_tokens=12, count=3),
        bootstrap=dict(new_tokens=12, count=6),
        refine=dict(new_tokens=12, count=3),
    )
    for stage in cfg.train_cfg.stages:
        if stage.max_iters:
            stage.max_iters = 1
    cfg.train_cfg.stages = cfg.train_cfg.stages[:2]
    model = train(cfg).model
    lines = (tmp_path / "run/stages/01_student_0/pairs.jsonl").read_text().splitlines()
    source = json.loads(lines[0])["source"]  # full or not: there are no filters
    assert source
    assert set(source.replace(".", " ").split()) <= {"news", "a", "b"}
    assert model.critic(["a b ."], ["b ."]).sum().item() == pytest.approx(1)
    assert model.lm_words.eos_token_id == 1

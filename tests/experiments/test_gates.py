"""Gates: conditions that are committed before the first run, checked by code."""

import pytest

from pld_mmdet.errors import UserError
from pld_mmdet.experiments.gates import judge, read_gates

RESULT = {
    "rows": [
        {
            "name": "start",
            "evaluate": {"gate": {"mean": {"precision": 0.914, "recall": 0.31}}},
            "pseudo": {"mean": {"novel/precision": 0.8}},
        },
        {"name": "method", "evaluate": {"gate": {"mean": {"recall": 0.25}}}},
    ]
}
PRECISE = dict(title="precise", row="start", on="gate", metric="precision")


def judged(**gate):
    gates = read_gates([PRECISE | gate], ["start", "method"])
    return judge(gates, RESULT)


def test_a_gate_says_its_number_and_its_bound():
    assert judged(at_least=0.9) == (True, ["precise: 0.914, at least 0.9: passes."])
    assert judged(at_least=0.92) == (False, ["precise: 0.914, at least 0.92: FAILS."])
    passes, (sentence,) = judged(at_least=0.5, at_most=0.9)
    assert not passes
    assert sentence == "precise: 0.914, at least 0.5 and at most 0.9: FAILS."


def test_bounds_are_inclusive():
    assert judged(at_least=0.914)[0]
    assert judged(at_most=0.914)[0]


def test_differences_and_quotients_of_rows():
    gain = dict(metric="recall", minus="method", at_least=0.05)
    assert judged(**gain) == (True, ["precise: 0.06, at least 0.05: passes."])
    both = {"test": {"mean": {"x": 0.5}}, "teacher": {"mean": {"x": 0.7}}}
    gate = dict(on="teacher", metric="x", minus="a", minus_on="test", at_least=0.1)
    (gate,) = read_gates([dict(title="T", row="a", **gate)], ["a"])
    assert gate.value({"rows": [dict(name="a", evaluate=both)]}) == pytest.approx(0.2)
    share = dict(row="method", metric="recall", over="start", at_least=0.8)
    assert judged(**share)[1] == ["precise: 0.8065, at least 0.8: passes."]
    other = dict(over="start", over_metric="recall", at_most=3)
    assert judged(**other)[1] == ["precise: 2.948, at most 3: passes."]


def test_what_a_run_counted_of_its_labels():
    counted = dict(on="pseudo", metric="novel/precision", at_least=0.8)
    assert judged(**counted)[0]


def test_nothing_measured_is_no_pass():
    passes, (sentence,) = judged(metric="other", at_least=0.1)
    assert not passes
    assert sentence == "precise: not measured yet (at least 0.1)."
    assert not judged(row="method", on="pseudo", metric="x", at_most=1)[0]
    assert judge([], RESULT) == (True, [])


@pytest.mark.parametrize(
    ("gate", "sentence"),
    [
        (dict(), "lets everything pass"),
        (dict(at_least=1, row="nobody"), "'nobody'"),
        (dict(at_least=1, minus="nobody"), "'nobody'"),
        (dict(at_least=1, colour="red"), "colour"),
    ],
)
def test_gates_that_do_not_fit(gate, sentence):
    with pytest.raises(UserError, match=sentence):
        judged(**gate)

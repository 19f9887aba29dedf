"""The guard's judge on numbers written by hand."""

import pytest

from pld_mmdet.detection.hooks.collapse_signs import CollapseSigns

SEEN = dict(cat=100, dog=100, hen=100)


def window(classes=(3.0, 1.0, 1.0), now=100, **more):
    numbers = dict(iter=now, classes=list(classes), boxes=sum(classes), score=0.8)
    return numbers | dict(agreement=0.6, compared=50, distance=0.2) | more


def judge(later, first=None, seen=SEEN, images=400, **signs):
    return CollapseSigns(**signs).judge(first or window(), later, seen, images)


def test_a_window_like_the_first_is_sound():
    assert judge(window()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (dict(classes=(0.72, 0.24, 0.24)), "fallen from 5.00 to 1.20 an image"),
        (dict(classes=(27.0, 9.0, 9.0)), "risen from 5.00 to 45.00 an image"),
        (dict(classes=(0.0, 0.0, 0.0)), "not one pseudo label"),
        (dict(agreement=0.29), "agreement of teacher and student has fallen"),
        (dict(score=0.39), "mean score of the detections has fallen from 0.80 to 0.39"),
        (dict(distance=0.51), "moved by 0.51"),
        (dict(score=float("nan")), "not finite"),
        (dict(score=float("inf")), "not finite"),
    ],
)
def test_each_sign_alone(change, word):
    (sign,) = judge(window(**change))
    assert word in sign


@pytest.mark.parametrize(
    "change",
    [
        dict(classes=(0.75, 0.25, 0.25)),  # a quarter, exactly
        dict(classes=(24.0, 8.0, 8.0)),  # eight times, exactly
        dict(agreement=0.3),
        dict(score=0.4),
        dict(distance=0.5),
        dict(agreement=0.05, compared=9, score=0.8),  # too few boxes to say anything
    ],
)
def test_limits_are_no_signs(change):
    first = window(agreement=0.0) if change.get("compared") == 9 else window()
    assert judge(window(**change), first) == []


def test_little_agreement_counts_also_if_the_first_window_had_no_more():
    first = window(agreement=0.05)
    assert judge(window(agreement=0.06, compared=10), first) == [
        "teacher and student agree on 6 % of their boxes"
    ]
    assert judge(window(agreement=0.1), first) == []
    del first["agreement"]  # a model that could not tell then
    assert judge(window(agreement=0.12), first) == []


def test_few_boxes_may_become_many_times_as_many():
    """From 0.5 to 20 an image is 40 times as many, and still no flood."""
    first = window((0.3, 0.1, 0.1))
    assert judge(window((12.0, 4.0, 4.0)), first) == []
    (sign,) = judge(window((12.6, 4.2, 4.2)), first)
    assert "risen from 0.50 to 21.00" in sign


def test_a_class_that_takes_over_unless_chance_explains_it():
    # shares 0.6 0.2 0.2 -> 0.2 0.2 0.6: total variation 0.4
    later = window((1.0, 1.0, 3.0))
    assert judge(later) == [
        "class hen has grown from 20 % to 60 % of the pseudo labels"
    ]
    # of 5 boxes an image: 0.25 + 0.5 sqrt(3 / 5 n) reaches 0.4 at n = 20 / 3
    assert judge(later, images=7) != []
    assert judge(later, images=6) == []
    # the window with fewer boxes has more chance in it, whichever it is
    assert judge(window((4.0, 4.0, 12.0)), images=6) == []
    assert judge(later, window((12.0, 4.0, 4.0)), images=6) == []


def test_classes_that_went_silent_and_one_that_never_spoke():
    signs, seen = CollapseSigns(silent_for=300), dict(cat=100, dog=700, hen=None)
    assert signs.silent(400, seen) == ["cat", "hen"]
    assert signs.silent(399, seen) == ["hen"]
    assert signs.lost(400, seen) == ["cat"]
    assert judge(window(now=400), seen=seen, silent_for=300) == []  # 1 of 2, no more
    seen = dict(cat=100, dog=90, hen=400)
    assert judge(window(now=400), seen=seen, silent_for=300) == [
        "2 of 3 classes have no pseudo label any more"
    ]
    # of the classes that ever had a label: 2 of 3 again, not 2 of 4
    seen["cow"] = None
    assert judge(window(now=400), seen=seen, silent_for=300) != []
    # without a word 600 steps are long
    assert judge(window(now=699)) == []
    assert judge(window(now=700)) == ["3 of 3 classes have no pseudo label any more"]

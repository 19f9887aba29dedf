"""The page of one adaptation, from what the run wrote about itself."""

import json

from pld_mmdet.adaptation.outcome import Outcome
from pld_mmdet.adaptation.page import write_page


class Said:
    """Stands for the images and the recipe, which the page only quotes."""

    def __init__(self, text: str, broken: list[tuple[str, str]] = ()) -> None:
        self.text, self.broken = text, list(broken)

    def sentence(self, *_) -> str:
        return self.text


def test_what_is_said_is_there_and_escaped(tmp_path):
    windows = [
        dict(iter=50, boxes=3.0, score=0.75, classes=[2.25, 0.5], silent=[]),
        dict(iter=100, boxes=2.0, score=0.5, classes=[1.125, 0.0], silent=["<bus>"]),
    ]
    guard = dict(
        state="sound",
        windows=windows,
        classes=["car", "<bus>"],
        events=[dict(iter=100, what="<bus> fell silent")],
    )
    history = [{"iter": 0, "coco/AP50": 0.21}, {"iter": 100, "coco/AP50": 0.34}]
    outcome = Outcome(history, "iter_100.pth", 100, "last", guard)
    run = dict(command="adapt '<x>'", commit="abc", minutes=1.5, exit="finished")
    (tmp_path / "run.json").write_text(json.dumps(run))
    images = Said("12 images", [("<a>.png", "cut short")])
    path = write_page(tmp_path, outcome, images, Said("the rule"), "lpld", "?")
    page = path.read_text()
    assert "AP50 on your labelled images: 21.0 before, 34.0 after" in page
    for text in ("&lt;bus&gt;", "&lt;a&gt;.png: cut short", "12 images", "the rule"):
        assert text in page
    assert "<td>2.25</td><td>1.12</td>" in page
    assert "<td>silent</td>" in page
    assert "<bus>" not in page
    assert page.count("<polyline") == 3  # AP50, boxes, score


def test_nothing_but_an_end(tmp_path):
    outcome = Outcome([], "x.pth", 0, "last", {}, trained=False)
    arguments = tmp_path, outcome, Said("0"), Said("r"), "adabn", "All <kept>"
    page = write_page(*arguments).read_text()
    assert "<h1>All &lt;kept&gt;</h1>" in page
    for part in ("How it went", "Pseudo labels of each class", "Collapse guard"):
        assert part not in page


def test_a_finished_page_neither_renews_itself_nor_asks_a_server(tmp_path):
    outcome = Outcome([], "x.pth", 0, "last", dict(events=[dict(iter=7, what="<i>")]))
    page = write_page(tmp_path, outcome, Said("0"), Said("r"), "adabn", "?").read_text()
    for word in ("<script", "http-equiv", 'id="gone"', "bar-wrap c-"):
        assert word not in page
    assert "<li>Iteration 7: &lt;i&gt;.</li>" in page
    assert page.count("<h1>") == 1

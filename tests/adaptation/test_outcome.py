"""What a run says about itself."""

from pld_mmdet.adaptation.outcome import Outcome


def outcome(chosen: int, **event: int) -> Outcome:
    history = [
        {"iter": i, "coco/AP50": ap} for i, ap in ((0, 0.2), (9, 0.5), (12, 0.2))
    ]
    guard = dict(state="stopped", events=[dict(iter=12, what="collapsed", **event)])
    return Outcome(history, "x.pth", chosen, "last", guard)


def test_after_a_stop_it_says_whose_weights_they_are():
    *_, line = outcome(12, weights_of=0).sentences()
    assert "20.0 source -> 20.0 (last, iteration 12: the weights of 0 again)" in line
    assert "best seen 50.0 (iteration 9" in line


def test_a_checkpoint_before_the_stop_has_its_own_weights():
    *_, line = outcome(9, weights_of=0).sentences()
    assert "50.0 (last, iteration 9); last 20.0" in line

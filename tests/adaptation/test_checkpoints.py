"""Scores against AP50 over checkpoints: ranks by hand, and a run of saved weights."""

import json
import math

import pytest

import pld_mmdet
from pld_mmdet.adaptation.checkpoints import (
    add_published_das,
    correlations,
    recorded_run,
    score_run,
    spearman,
)
from pld_mmdet.errors import UserError
from tests.adaptation.tiny import write_detector, write_images
from tests.engine.processes import Tool


def test_rank_correlation_by_hand():
    assert spearman([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.9]) == 1.0
    assert spearman([1, 2, 3, 4], [9, 8, 7, 6]) == -1.0
    # d = (0, 1, 1): 1 - 6 * 2 / (3 * 8)
    assert spearman([1, 2, 3], [10, 30, 20]) == pytest.approx(0.5)
    # ties share ranks 1.5, 1.5, 3 against 1, 2, 3
    assert spearman([5, 5, 6], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(1.5 * 2))
    assert spearman([1, 1], [1, 2]) == 0.0


def rows(scores, truth):
    return [
        dict(checkpoint=str(n), iter=n, agreement=s, **{"coco/AP50": t})
        for n, (s, t) in enumerate(zip(scores, truth, strict=True))
    ]


def test_what_a_score_loses_when_it_picks():
    runs = dict(
        a=rows([0.1, 0.3, 0.2], [0.4, 0.5, 0.6]), b=rows([0.9, 0.8], [0.2, 0.1])
    )
    found = {(line["run"], line["score"]): line for line in correlations(runs)}
    assert found["a", "agreement"]["spearman"] == pytest.approx(0.5)
    assert found["a", "agreement"]["lost"] == pytest.approx(0.1)
    assert found["b", "agreement"]["lost"] == 0.0
    # the pool picks 0.9 of run b, whose AP50 is 0.2
    assert found["all", "agreement"]["lost"] == pytest.approx(0.4)


def test_checkpoints_without_a_score_are_left_out_but_count_as_best():
    run = rows([math.nan, 0.3, 0.2], [0.9, 0.5, 0.4])
    (line,) = correlations(dict(a=run))
    assert line["spearman"] == 1.0
    assert line["lost"] == pytest.approx(0.4)
    assert correlations(dict(a=rows([0.1], [0.2]))) == []


def test_published_das_over_the_checkpoints_of_a_run():
    run = [dict(das_fis=f, das_pdr=p) for f, p in ((0.2, 10), (0.4, 20), (0.3, 30))]
    add_published_das(run)
    assert [row["das_run"] for row in run] == [0.0, 1.5, 1.5]


def test_saved_run_is_scored_without_labels(tmp_path):
    config, checkpoint = write_detector(tmp_path / "d")
    pld_mmdet.adapt(
        config,
        checkpoint,
        write_images(tmp_path / "images", 6),
        "mean_teacher",
        out=tmp_path / "run",
        workers=0,
        iterations=4,
        evaluations=2,
        select="last",
        score_images=3,
        say=lambda line: None,
    )
    found = score_run(tmp_path / "run", images=3)
    assert [row["iter"] for row in found] == [2, 4]
    # the same numbers as in the run itself
    history = (tmp_path / "run" / "scores.jsonl").read_text().splitlines()
    during = {json.loads(line)["iter"]: json.loads(line) for line in history}
    for row in found:
        for name in ("agreement", "box_stability", "das"):
            assert row[name] == pytest.approx(
                during[row["iter"]][f"label_free/{name}"], abs=1e-6
            )
    words = [tmp_path / "run", "--images", 2, "--no-ap"]
    words += ["--out", tmp_path / "scores.json"]
    Tool("score_checkpoints", *words, log=tmp_path / "log").finish()
    written = json.loads((tmp_path / "scores.json").read_text())
    assert len(written["runs"][str(tmp_path / "run")]) == 2
    with pytest.raises(UserError, match=r"holds no config\.py"):
        score_run(tmp_path)


def test_recorded_evaluations_are_read_not_made_again(tmp_path):
    lines = [
        {"iter": 0, "label_free/agreement": 0.2, "label_free/das_fis": 0.2},
        {"iter": 5, "label_free/agreement": 0.4, "label_free/das_fis": 0.4},
        {"iter": 9, "label_free/agreement": 0.3},  # no detection: no FIS
    ]
    for line, ap in zip(lines, (0.1, 0.3, 0.2), strict=True):
        line["coco/AP50"] = ap
    (tmp_path / "scores.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = recorded_run(tmp_path)
    assert [row["iter"] for row in rows] == [0, 5, 9]
    assert [row["das_run"] for row in rows[:2]] == [0.0, 1.0]
    assert math.isnan(rows[2]["das_run"])
    found = {line["score"]: line for line in correlations({"a": rows})}
    assert found["agreement"]["spearman"] == 1.0
    assert found["das_run"]["spearman"] == 1.0  # of the two rows that have one
    with pytest.raises(UserError, match=r"holds no scores\.jsonl"):
        recorded_run(tmp_path / "nowhere")

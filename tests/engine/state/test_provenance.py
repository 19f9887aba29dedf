"""Which files a run of a config reads."""

from pathlib import Path

from mmengine.config import Config

from pld_mmdet.engine.state import provenance
from pld_mmdet.engine.state.provenance import annotations, data_sets


def leaf(name, root="data/"):
    return dict(type="CocoDataset", data_root=root, ann_file=name)


def test_annotations_are_those_of_what_is_built():
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(dataset=leaf("train.json"))),
            train_cfg=dict(stages=[dict(dataloader=dict(dataset=leaf("stage.json")))]),
            val_evaluator=[dict(ann_file="data/val.json"), dict(ann_file=None)],
            custom_hooks=[dict(type="PseudoBoxHook", ann_file="data/hidden.json")],
            model=dict(labels=leaf("pairs.json", root=None)),
            # helper variables of the config file, whatever they hold
            voc=leaf("never_read.json"),
            unlabelled=dict(data_root=7, ann_file="x"),
            test_pipeline=[dict(ann_file="y")],
        )
    )
    names = ("train.json", "stage.json", "val.json", "hidden.json")
    assert annotations(cfg) == {Path("pairs.json"), *(Path("data", n) for n in names)}
    assert annotations(Config({})) == set()


def test_what_is_no_path_is_no_file():
    odd = [dict(ann_file=["a", "b"]), leaf("a.json", root={"img": "x"}), leaf("")]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(datasets=odd))))
    assert annotations(cfg) == set()
    assert provenance.tested_on(cfg, 3) == {"images": 3}
    cfg.test_dataloader.dataset.datasets.append(leaf("b.json"))
    assert provenance.tested_on(cfg, 3) == {"images": 3, "files": ["data/b.json"]}


def test_initial_weights_are_named_with_their_checksums(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"abc")
    a, gone = str(tmp_path / "a.pth"), str(tmp_path / "gone.pth")

    def init(path, kind="Pretrained"):
        return dict(type=kind, checkpoint=path)

    cfg = Config(
        dict(
            model=dict(
                student=dict(backbone=dict(init_cfg=init(a))),
                teachers=[dict(init_cfg=[dict(type="Normal"), init(gone)])],
                again=dict(init_cfg=init(a, "mmengine.Pretrained")),
                init_cfg=dict(type="Constant", val=0),
            ),
            helper=dict(init_cfg=init("never.pth")),
        )
    )
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.pretrained(cfg) == {a: abc, gone: None}
    assert provenance.pretrained(Config({})) == {}


def test_data_sets_of_nested_wrappers():
    inner = dict(type="A"), dict(type="B")
    nested = dict(
        type="RepeatDataset", dataset=dict(type="ConcatDataset", datasets=list(inner))
    )
    assert data_sets(nested) == list(inner)

"""The functions that configs call, and what a row takes when it says nothing."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from pld_mmdet.experiments.durations import recorded_seconds
from pld_mmdet.experiments.graph import jobs_of
from pld_mmdet.experiments.rows import Experiment
from pld_mmdet.recipes import (
    cosine,
    drops,
    from_each,
    iterations,
    loader,
    loaders,
    optimizer,
    parts,
    poly,
    rise_and_fall,
    stage,
    staged,
    warm_up,
)
from pld_mmdet.recipes.crops import crops_table, few_pixels, tiny_crops
from pld_mmdet.recipes.diffusion import unet
from pld_mmdet.recipes.images import (
    cifar,
    cifar_files,
    imagenet,
    imagenet_crops,
    imagenet_resnet,
    thin_resnet,
    wide_resnet,
)
from pld_mmdet.recipes.segmentation import encoder_decoder, few_scenes, maps_table
from pld_mmdet.recipes.tables import (
    in_parts,
    lengths,
    on_test,
    raw_pixels,
    row,
    table,
)


def test_a_training_loader_is_shuffled_resumed_and_seeded():
    made = loader(dict(type="D", part="train"), 7, train=True, seeded=True, workers=2)
    assert made["batch_size"] == 7
    assert made["sampler"] == dict(
        type="pld_mmdet.ResumableSampler", shuffle=True, infinite=True
    )
    assert made["dataset"] == dict(
        type="pld_mmdet.SeededDataset", dataset=dict(type="D", part="train")
    )
    assert made["persistent_workers"]
    passes = loader(dict(type="D"), 7, train=True, epochs=True)
    assert passes["sampler"]["infinite"] is False
    assert "persistent_workers" not in passes  # torch refuses it without workers
    short = loader(dict(type="D"), 7, workers=2, persistent=False)
    assert short["num_workers"] == 2
    assert "persistent_workers" not in short


def test_parts_share_what_they_have_in_common():
    train, val, test = loaders(
        dict(type="D", size=8),
        5,
        train=dict(part="train", size=9),
        test=dict(part="test"),
        eval_batch=11,
    )
    assert train["dataset"] == dict(type="D", size=9, part="train")
    assert val is None
    assert (test["batch_size"], test["dataset"]["size"]) == (11, 8)
    assert test["sampler"] == dict(type="DefaultSampler", shuffle=False)


def test_an_optimizer_and_a_loop():
    made = optimizer("SGD", 0.3, momentum=0.8, clip_grad=dict(max_norm=2.0))
    assert made["optimizer"] == dict(type="SGD", lr=0.3, momentum=0.8)
    assert made["clip_grad"] == dict(max_norm=2.0)
    assert iterations(90)["val_interval"] == 90
    assert iterations(90, 30)["val_interval"] == 30


def test_the_digits_of_a_base_are_what_the_function_makes():
    cfg = Config.fromfile("configs/_base_/datasets/digits.py")
    made = loaders(
        dict(type="pld_mmdet.Digits"),
        64,
        train=dict(part="train"),
        val=dict(part="val"),
        test=dict(part="test"),
    )
    names = ("train_dataloader", "val_dataloader", "test_dataloader")
    assert [cfg[name].to_dict() for name in names] == list(made)


@pytest.fixture
def toy(tmp_path):
    text = (
        "from pld_mmdet.recipes.tables import row\n"
        "experiment = dict(name='mine', rows=[row('plain', 'P'), "
        "row('whole', 'W', 'a=3', init='plain')])\n"
    )
    base = tmp_path / "base.py"
    base.write_text("a = 1\n")
    config = tmp_path / "toy.py"
    config.write_text("_base_ = './base.py'\n" + text)
    (tmp_path / "plain.py").write_text("a = 2\n")
    return config


def test_a_row_finds_its_config_by_its_name(toy):
    plain, whole = Experiment.load(str(toy)).rows
    assert plain.config == str(toy.with_name("plain.py"))
    assert whole.config == str(toy)
    assert whole.options == ["a=3"]
    assert whole.init == "plain"
    assert plain.seconds == 60.0  # never recorded


def test_a_test_with_options_has_those_of_its_row_too(toy, tmp_path):
    text = toy.read_text()
    toy.write_text(
        text + "experiment['rows'][1]['evaluate'] = dict(one=None, two=['b=5'])\n"
    )
    jobs = jobs_of(Experiment.load(str(toy)), [7], tmp_path / "out")
    by_name = {job.name: job for job in jobs}
    one = by_name["seed_7/whole/test_one"].command
    two = by_name["seed_7/whole/test_two"].command
    assert "--cfg-options" not in one
    assert two[two.index("--cfg-options") + 1 :] == ("a=3", "b=5")


def test_the_time_of_a_row_is_the_recorded_one(tmp_path):
    rows = [dict(name="plain", minutes=1.5), dict(name="whole")]
    (tmp_path / "mine.json").write_text(json.dumps(dict(rows=rows)))
    assert recorded_seconds("mine", "plain", tmp_path) == 90.0
    assert recorded_seconds("mine", "whole", tmp_path) == 60.0
    assert recorded_seconds("other", "plain", tmp_path) == 60.0


def test_batches_from_each_part():
    assert from_each(12, 1, 3, _delete_=True) == dict(
        type="pld_mmdet.SemiSampler",
        batch_size=12,
        source_ratio=[1, 3],
        by_aspect=False,
        _delete_=True,
    )
    sampler = dict(type="S")
    assert loader(dict(type="D"), 4, sampler=sampler)["sampler"] is sampler


def test_an_optimizer_in_half_precision_that_spares_norms():
    made = optimizer("Adam", 0.1, half="bfloat16", clip=2.0, spare_norms=True, eps=1e-7)
    assert made == dict(
        type="pld_mmdet.FiniteAmpOptimWrapper",
        optimizer=dict(type="Adam", lr=0.1, eps=1e-7),
        dtype="bfloat16",
        clip_grad=dict(max_norm=2.0),
        constructor="pld_mmdet.MergedGroups",
        paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    )
    assert "dtype" not in optimizer("Adam", 0.1, half=True)


def test_rates_move_as_said():
    kinds = [warm_up(0.25, 4), drops(5, 7), cosine(T_max=9), poly(2.0, end=9)]
    weight = torch.nn.Parameter(torch.zeros(1))
    for kind in kinds:
        torch_kind = dict(kind, optimizer=torch.optim.SGD([weight], 8.0))
        steps = PARAM_SCHEDULERS.build(torch_kind)
        rates = [steps.optimizer.param_groups[0]["lr"]]
        for _ in range(9):
            steps.step()
            rates.append(steps.optimizer.param_groups[0]["lr"])
        wanted = {
            "LinearLR": {0: 2.0, 2: 6.0, 9: 8.0},  # from a quarter, in 3 steps
            "MultiStepLR": {4: 8.0, 5: 0.8, 7: 0.08},
            "CosineAnnealingLR": {0: 8.0, 3: 6.0, 9: 0.0},
            "PolyLR": {0: 8.0, 8: 0.0},
        }[kind["type"]]
        for step, rate in wanted.items():
            assert rates[step] == pytest.approx(rate, abs=1e-9)


def test_stages_say_only_what_is_theirs():
    made = staged(stage("a", 3, data=dict(b=1), schedule=[]), stage("b", 0), c=2)
    assert made == dict(
        type="pld_mmdet.StagedLoop",
        stages=[
            dict(name="a", max_iters=3, dataloader=dict(b=1), param_scheduler=[]),
            dict(name="b", max_iters=0),
        ],
        c=2,
    )


def test_a_table_of_rows():
    made = table("mine", row("a", "A", "b=1"), metric="nll", data="make")
    assert made["rows"] == [dict(name="a", title="A", options=["b=1"])]
    assert (made["name"], made["metric"], made["data"]) == ("mine", "nll", "make")


def test_cifar():
    assert "/cifar-100-binary.tar.gz | tar xz -C data" in cifar_files(100)
    assert cifar(100) == dict(type="pld_mmdet.CIFAR", data_root="data/cifar-100-binary")
    ten = cifar(10, "test", augment=True)
    assert ten["data_root"] == "data/cifar-10-batches-bin"
    assert (ten["classes"], ten["part"], ten["augment"]) == (10, "test", True)
    assert thin_resnet(5, 10)["blocks"] == (5, 5, 5)
    assert thin_resnet(5, 10)["num_classes"] == 10
    assert wide_resnet(3)["widths"] == (32, 64, 128)
    assert "pre_activation" not in wide_resnet(3)  # it has it


def test_imagenet():
    assert imagenet("val", size=9)["data_root"] == "data/imagenet/val"
    assert imagenet("val", size=9)["size"] == 9
    made = imagenet_resnet(101, 512, kind="ResNeXt", groups=32)
    assert made["backbone"] == dict(
        type="mmdet.ResNeXt", depth=101, out_indices=(3,), groups=32
    )
    assert (made["feat_dim"], made["num_classes"]) == (512, 1000)
    assert (made["mean"][0], made["std"][2]) == (0.485, 0.225)  # the folder is raw
    crops = imagenet_crops(7)
    assert crops["batch_size"] == 7
    assert crops["dataset"]["type"] == "pld_mmdet.SeededDataset"


def test_the_way_up_mirrors_the_way_down():
    made = unet(32, (6, 3), (8, 16, 24), 2, attention=(1, 2), dropout=0.5)
    down, up = made["down_block_types"], made["up_block_types"]
    assert down == ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    assert up == ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert (made["in_channels"], made["out_channels"]) == (6, 3)
    assert (made["sample_size"], made["layers_per_block"]) == (32, 2)
    assert made["dropout"] == 0.5


def test_a_rate_rises_and_falls():
    rise, fall = rise_and_fall(70)
    assert (rise["end"], fall["begin"], fall["power"]) == (70, 70, 1.0)


def test_an_optimizer_for_each_part():
    made = parts(a=dict(optimizer=dict(type="Adam", lr=0.5)))
    assert made["type"] == "pld_mmdet.FiniteOptimWrapper"
    assert made["constructor"] == "pld_mmdet.PartsOptimConstructor"
    assert made["a"] == dict(optimizer=dict(type="Adam", lr=0.5))


def test_options_of_stages_and_loaders():
    assert lengths(7, None, 0) == [
        "train_cfg.stages.0.max_iters=7",
        "train_cfg.stages.2.max_iters=0",
    ]
    assert lengths() == []
    assert in_parts("batch_size=3") == [
        "val_dataloader.batch_size=3",
        "test_dataloader.batch_size=3",
    ]
    assert in_parts("a=1", "train") == ["train_dataloader.a=1"]
    assert few_scenes("p") == ["p.data_root=data/street_maps_walk/"]
    assert few_scenes()[1] == "test_dataloader.dataset.data_root=data/street_maps_walk/"
    assert tiny_crops("p", "q")[1] == "q.data_root=data/tiny_crops"
    assert tiny_crops()[0] == "val_dataloader.dataset.data_root=data/tiny_crops"


def test_trivial_rows_and_columns():
    plain = raw_pixels("a=1", of="clean digits")
    assert plain["title"] == "Raw pixels of clean digits, logistic regression"
    assert plain["baseline"] == dict(type="raw_input", c=0.1)
    few = raw_pixels(on="9 labels", c=None, train="t")
    assert few["title"] == "Raw pixels, logistic regression on 9 labels"
    assert few["baseline"] == dict(type="raw_input", train="t")
    distilled = few_pixels(5)
    assert distilled["options"][0] == "train_dataloader.dataset.labelled=40"
    assert distilled["title"].startswith("Raw pixels of 5 images a class")
    assert list(on_test("ECE", "accuracy").items()) == [
        ("ECE", ("test", "ece")),
        ("accuracy", ("test", "accuracy")),
    ]


def test_tables_of_streets():
    made = maps_table("mine", row("a", "A"), classes=("sky",))
    assert made["columns"] == {"mIoU": ("test", "mIoU"), "sky": ("test", "IoU/sky")}
    assert made["metric"] == "mIoU"
    assert "columns" not in maps_table("mine")
    assert crops_table("mine", metric="m")["data"].endswith("street_crops")


def test_a_segmentor_is_put_together():
    made = encoder_decoder(dict(type="B"), dict(type="H"), auxiliary_head=dict(a=2))
    assert made["data_preprocessor"]["bgr_to_rgb"] is True
    assert (made["backbone"]["type"], made["decode_head"]["type"]) == ("B", "H")
    assert made["auxiliary_head"] == dict(a=2)
    other = encoder_decoder({}, {}, dict(mean=[3.0], std=[5.0]))
    assert other["data_preprocessor"] == dict(
        type="SegDataPreProcessor", mean=[3.0], std=[5.0]
    )

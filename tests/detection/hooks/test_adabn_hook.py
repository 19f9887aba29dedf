"""AdaBN as a hook: which images it looks at, and what loaders it takes."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.runner import get_priority
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet.detection.hooks import CollapseGuardHook, adabn
from pld_mmdet.detection.hooks.adabn import AdaBNHook, adapt_batch_norm
from pld_mmdet.detection.loops.adabn import AdaBNLoop
from pld_mmdet.engine.hooks import TeacherEMAHook
from pld_mmdet.errors import UserError
from tests.detection.helpers import on_processes


class Network(nn.Module):
    with_neck = False

    def __init__(self):
        super().__init__()
        self.backbone = nn.BatchNorm2d(1)

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def data_preprocessor(self, data, training):
        assert training  # else mmdet's takes branches for one batch

        def stacked(images):
            assert None not in images
            return torch.stack(images)

        inputs = data["inputs"]
        inputs = (
            {k: stacked(v) for k, v in inputs.items()}
            if isinstance(inputs, dict)
            else stacked(inputs)
        )
        return dict(inputs=inputs, data_samples=data["data_samples"])


def image(value: float):
    return torch.tensor([[[value, value + 2.0]]])


def plain(values) -> list:
    return [dict(inputs=image(v), data_samples=DetDataSample()) for v in values]


def views(values, name: str, all_names=("sup", "weak", "strong")) -> list:
    """As mmdet's MultiBranch makes them: None where a sample has no such view."""

    def spread(what):
        return {n: what if n == name else None for n in all_names}

    return [
        dict(inputs=spread(image(v)), data_samples=spread(DetDataSample()))
        for v in values
    ]


def run(loader, branch="weak"):
    network = Network()
    assert adapt_batch_norm(network, loader, 100, branch) == 1
    return network.backbone


def test_a_loader_with_a_batch_sampler_has_a_batch_size_too():
    data = plain([1.0, 3.0, 8.0])
    batches = torch.utils.data.BatchSampler(range(3), batch_size=2, drop_last=False)
    sampled = DataLoader(data, batch_sampler=batches, collate_fn=pseudo_collate)
    assert sampled.batch_size is None
    usual = DataLoader(data, batch_size=2, collate_fn=pseudo_collate)
    one, other = run(sampled), run(usual)
    # batches (1, 3, 3, 5) and (8, 10): means 3 and 9, unbiased variances 8/3 and 2;
    # the first counts twice, as it has two images
    assert one.running_mean.item() == other.running_mean.item() == 5.0
    assert one.running_var.item() == pytest.approx((2 * 8 / 3 + 2) / 3)
    assert one.num_batches_tracked == 2


def test_images_of_another_size_are_not_padded_but_wait_for_their_like():
    """Batches (1, 7), (5, 5) and the last one of each size: 2, 2, 1 and 1 images."""
    sizes = [2, 3, 2, 3, 3, 2]
    values = [1.0, 5.0, 7.0, 5.0, 11.0, 13.0]
    data = [
        dict(inputs=torch.full((1, 1, n), v), data_samples=DetDataSample())
        for n, v in zip(sizes, values, strict=True)
    ]
    for sample in data:
        sample["inputs"][..., 0] += 1  # constant images have no variance to see
    network = run(DataLoader(data, batch_size=2, collate_fn=pseudo_collate))
    # mean of an image: its value + 1 / its width; a padded batch would have zeros
    wanted = (1.5 + 7.5 + 13.5 + 3 * 1 / 3 + 5 + 5 + 11) / 6
    assert network.running_mean.item() == pytest.approx(wanted)


def test_of_many_sizes_few_images_wait():
    made, waiting = [], []

    class Data:
        def __getitem__(self, n):
            waiting.append(n - sum(map(len, made)))
            return dict(inputs=torch.zeros(1, 1, n + 2), data_samples=DetDataSample())

    args = 4, pseudo_collate, "weak", [0], set()
    for batch in adabn._batches(Data(), list(range(30)), *args):
        made.append(batch["inputs"])
    assert max(waiting) == adabn._SIZES == 8
    assert [images[0].shape[-1] for images in made] == list(range(2, 32))


def test_labelled_images_without_the_view_are_left_out():
    data = [*views([50.0, 70.0], "sup"), *views([1.0, 3.0], "weak")]
    for sample in data:
        sample["source"] = "a folder"  # which has no views
    loader = DataLoader(data, batch_size=3, collate_fn=pseudo_collate)
    assert run(loader).running_mean.item() == 3.0


def test_a_view_that_no_image_has_is_a_sentence_and_changes_nothing():
    data = views([50.0, 70.0], "unsup_teacher", ("sup", "unsup_teacher"))
    loader = DataLoader(data, batch_size=2, collate_fn=pseudo_collate)
    network = Network()
    network.backbone.running_mean.fill_(7.0)
    with pytest.raises(UserError, match="'weak'; they have 'unsup_tea") as said:
        adapt_batch_norm(network, loader, 100)
    assert "branch='unsup_teacher'" in said.value.fix
    assert network.backbone.running_mean.item() == 7.0


class Pair(nn.Module):
    """A student and a teacher that differ."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = Network(), Network()
        self.data_preprocessor = self.student.data_preprocessor
        nn.init.constant_(self.student.backbone.weight, 3.0)


def loader_of(values, batch_size=2):
    return DataLoader(plain(values), batch_size=batch_size, collate_fn=pseudo_collate)


def test_images_are_spread_evenly_and_the_teacher_is_a_copy():
    model, data = Pair(), [1.0, 90.0, 3.0, 90.0, 11.0, 90.0, 90.0]
    assert adapt_batch_norm(model, loader_of(data, 1), num_images=3) == 1
    for network in (model.student, model.teacher):
        assert network.backbone.running_mean.item() == pytest.approx(6.0)  # 2, 4, 12
        assert network.backbone.weight.item() == 3.0
    few = Network()
    adapt_batch_norm(few, loader_of(data[:1]), num_images=3)
    assert few.backbone.running_mean.item() == 2.0


class Headed(Network):
    """Batch norm in a neck and perhaps in a head; notes how it is asked."""

    with_neck = True

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.neck, self.head, self.asked = nn.BatchNorm2d(1), head, []

    def extract_feat(self, inputs):
        self.asked.append("features")
        return self.neck(self.backbone(inputs))

    def predict(self, inputs, samples, rescale):
        self.asked.append(("whole", len(samples), rescale))
        return self.head(self.backbone(inputs)), self.neck(inputs)


def test_a_head_with_batch_norm_needs_the_whole_prediction():
    plain_head = Headed(nn.Identity())
    assert adapt_batch_norm(plain_head, loader_of([1.0, 3.0]), 2) == 2
    assert plain_head.asked == ["features"]
    headed = Headed(nn.BatchNorm2d(1))
    assert adapt_batch_norm(headed, loader_of([1.0, 3.0]), 2) == 3
    assert headed.asked == [("whole", 2, False)]


def test_a_network_without_batch_norm_asks_for_no_image(monkeypatch):
    network = Network()
    network.backbone = nn.Conv2d(1, 1, 1)
    broken = DataLoader([None] * 4, batch_size=2, collate_fn=pseudo_collate)
    said = []
    monkeypatch.setattr(adabn, "print_log", lambda text, logger: said.append(text))
    assert adapt_batch_norm(network, broken, 4) == 0
    assert len(said) == 1
    assert said[0].startswith("AdaBN: Network has no batch norm with running")


@pytest.mark.parametrize(("images", "mean"), [(3, 4.0), (1, 2.0)])
def test_each_image_counts_the_same_however_many_a_process_has(
    monkeypatch, images, mean
):
    """Means 2, 6 and 4 on two processes: (2 + 4) and 6, or 2 and no image."""
    data, said = [1.0, 5.0, 3.0][:images], []
    monkeypatch.setattr(adabn, "print_log", lambda text, logger: said.append(text))

    def adapted(rank):
        network = Network()
        adapt_batch_norm(network, loader_of(data, 1), num_images=9)
        return network.backbone.running_mean.item(), network.backbone.running_var.item()

    both = on_processes(monkeypatch, adabn, 2, adapted)
    assert both == [pytest.approx((mean, 2.0))] * 2
    assert said == [f"AdaBN: 1 layers re-estimated on {images} target images."] * 2


def test_a_process_without_the_view_waits_for_none_and_adds_nothing(monkeypatch):
    """Labelled and unlabelled in turn: the second process has all that count."""
    data = [views([v], n)[0] for v, n in ((70.0, "sup"), (1.0, "weak")) * 2]

    def adapted(rank, branch="weak"):
        network = Network()
        loader = DataLoader(data, batch_size=1, collate_fn=pseudo_collate)
        adapt_batch_norm(network, loader, num_images=4, branch=branch)
        return network.backbone.running_mean.item()

    assert on_processes(monkeypatch, adabn, 2, adapted) == [2.0, 2.0]

    def refused(rank):
        with pytest.raises(UserError, match="not one of 4 training images") as said:
            adapted(rank, "strong")
        return said.value.fix

    fixes = on_processes(monkeypatch, adabn, 2, refused)
    assert ["'sup'" in fixes[0], "'weak'" in fixes[1]] == [True, True]


@pytest.mark.parametrize(("images", "asked"), [([1.0], 0), ([], 3)])
def test_no_image_is_a_sentence(images, asked):
    data = DataLoader(images, sampler=range(len(images)))
    words = f"num_images={asked} of {len(images)} images"
    with pytest.raises(UserError, match=words):
        adapt_batch_norm(Network(), data, num_images=asked)


def test_as_it_stands_the_hook_takes_200_images_of_the_weak_view(monkeypatch):
    """Two of three of 300 images; the first 100 have another view."""
    network, said = Network(), []
    monkeypatch.setattr(adabn, "print_log", lambda text, logger: said.append(text))
    data = [*views([50.0] * 100, "sup"), *views([4.0] * 200, "weak")]
    loader = DataLoader(data, batch_size=50, collate_fn=pseudo_collate)
    run = SimpleNamespace(iter=0, model=network, train_dataloader=loader)
    AdaBNHook().before_train(run)
    assert network.backbone.running_mean.item() == pytest.approx(5.0)
    assert said == ["AdaBN: 1 layers re-estimated on 133 target images."]


def test_the_teacher_is_a_copy_before_and_the_guard_looks_afterwards():
    hooks = TeacherEMAHook, AdaBNHook, CollapseGuardHook
    places = [get_priority(hook.priority) for hook in hooks]
    assert places[0] < places[1] < places[2]


@pytest.mark.parametrize("iteration", [0, 1])
def test_the_hook_adapts_before_the_first_step_only(iteration):
    network, data = Network(), views([1.0, 3.0], "strong")
    loader = DataLoader(data, batch_size=2, collate_fn=pseudo_collate)
    wrapped = nn.DataParallel(network)
    run = SimpleNamespace(iter=iteration, model=wrapped, train_dataloader=loader)
    AdaBNHook(num_images=1, branch="strong").before_train(run)
    assert network.backbone.running_mean.item() == (0.0 if iteration else 2.0)


@pytest.mark.parametrize("done", [0, 1])
def test_the_loop_adapts_saves_and_evaluates(done):
    data, calls = views([1.0, 3.0, 5.0], "strong"), []

    class Named(list):
        metainfo = dict(classes=("cat",))

    loader = DataLoader(Named(data), batch_size=2, collate_fn=pseudo_collate)

    def save(folder, name, **kwargs):
        mean = run.model.module.backbone.running_mean.item()
        calls.append((folder, name, mean, kwargs, loop.iter))

    run = SimpleNamespace(
        model=nn.DataParallel(Network()),
        work_dir="/run",
        visualizer=SimpleNamespace(dataset_meta=None),
        val_loop=SimpleNamespace(run=lambda: calls.append("val")),
        call_hook=calls.append,
        save_checkpoint=save,
    )
    plain_loop = AdaBNLoop(run, loader)
    assert plain_loop.arguments == (200, "weak", 0)
    loop = AdaBNLoop(run, loader, num_images=2, branch="strong")
    assert run.visualizer.dataset_meta == dict(classes=("cat",))
    loop._iter = done  # as a runner does that resumes
    assert (loop.epoch, loop.iter) == (0, done)
    assert loop.run() is run.model
    options = dict(save_optimizer=False, by_epoch=False)
    # of 1 and 3; the runner adds the iteration that ends
    saved = [] if done else [("/run", "iter_1.pth", 3.0, options, 0)]
    assert calls == ["before_train", *saved, "val", "after_train"]
    assert loop.iter == 1
    run.val_loop = None
    loop.run()
    assert calls.count("val") == 1

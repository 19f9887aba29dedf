"""AdaBN before training, as one line in any config."""

from collections.abc import Iterator
from itertools import chain

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from pld_mmdet.distill.adabn import batch_norms, estimate_batch_norm
from pld_mmdet.distill.ema import ema_update
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.errors import UserError
from pld_mmdet.registry import HOOKS

_SIZES = 8  # image sizes that wait for a second image at a time


def adapt_batch_norm(
    model: nn.Module,
    loader: DataLoader,
    num_images: int,
    branch: str = "weak",
    prior: int = 0,
) -> int:
    """Re-estimate the batch-norm statistics of ``model`` on a loader's images.

    Args:
        model: A detector, or a wrapper with ``.student`` and ``.teacher``: then the
            student is adapted and the teacher becomes its copy.
        loader: A training loader of unlabelled images. Its data set, batch size and
            collate function are used, not its sampler.
        num_images: How many images, spread evenly over the data set.
        branch: Which view of a multi-branch batch is used.
        prior: How many images the present statistics stand for: with n new images they
            keep the share ``prior / (n + prior)`` (Schneider et al. 2020).

    Returns:
        Number of adapted layers.

    Raises:
        UserError: No image is there or asked for, or none has that view.
    """
    network = model.student if hasattr(model, "student") else model
    layers = batch_norms(network)
    dataset = loader.dataset
    count = min(num_images, len(dataset))
    if count < 1:
        raise UserError(
            f"AdaBN has no image: num_images={num_images} of {len(dataset)} images.",
            "Write at least 1 (200 is the default) and name a folder that has images.",
        )
    chosen = [i * len(dataset) // count for i in range(count)]
    chosen = chosen[get_rank() :: get_world_size()]
    # With a batch sampler (AspectRatioBatchSampler) torch's loader has no batch size.
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1
    counted, others = [0], set()
    batches = _batches(
        dataset, chosen, size, loader.collate_fn, branch, counted, others
    )
    first = next(batches, None) if layers else None
    some = torch.tensor(counted[0])
    all_reduce(some, op="sum")  # no process stops alone while the others wait
    if layers and not some:
        raise UserError(
            f"AdaBN: not one of {count} training images has the view {branch!r}; "
            f"they have {', '.join(map(repr, sorted(others))) or 'none'}.",
            "Write the view of the unlabelled images in custom_hooks: "
            f"AdaBNHook(branch={min(others, default='weak')!r}).",
        )
    # Batch norm inside a box head sees proposals, so the whole prediction has to run;
    # for a backbone and neck their own forward is enough.
    feature_layers = len(batch_norms(network.backbone))
    if network.with_neck:
        feature_layers += len(batch_norms(network.neck))
    features_only = feature_layers == len(layers)

    def forward(batch: dict) -> None:
        data = model.data_preprocessor(batch, training=True)
        inputs, samples = data["inputs"], data["data_samples"]
        if isinstance(inputs, dict):
            inputs, samples = inputs[branch], samples[branch]
        if features_only:
            network.extract_feat(inputs)
        else:
            network.predict(inputs, samples, rescale=False)

    def images(batch: dict) -> int:
        inputs = batch["inputs"]
        return len(inputs[branch] if isinstance(inputs, dict) else inputs)

    before = [(m.running_mean.clone(), m.running_var.clone()) for m in layers]
    everything = chain([first] if first is not None else [], batches)
    estimate_batch_norm(network, everything, forward, images)
    used = torch.tensor(counted[0])
    all_reduce(used, op="sum")
    for layer, old in zip(layers, before, strict=True):
        # A process with fewer images says less, and one without any says nothing.
        now = layer.running_mean, layer.running_var
        for statistics, theirs in zip(now, old, strict=True):
            statistics.mul_(counted[0] / used.item())
            all_reduce(statistics, op="sum")
            statistics.lerp_(theirs, prior / (used.item() + prior))
    if network is not model:
        ema_update(model.teacher, network, keep=0.0, buffers="copy")
    if layers:
        message = f"AdaBN: {len(layers)} layers re-estimated on {used} target images."
    else:
        message = (
            f"AdaBN: {type(network).__name__} has no batch norm with running "
            "statistics; there is nothing to adapt and nothing was changed."
        )
    print_log(message, "current")
    return len(layers)


def _batches(
    dataset,
    chosen: list[int],
    size: int,
    collate,
    branch: str,
    counted: list[int],
    others: set[str],
) -> Iterator[dict]:
    """Batches of the chosen images; of several views the one that is wanted.

    Labelled images of a semi-supervised data set have no weak view: they are left out.
    A batch has images of one size: what it is padded with is no content. Of many sizes
    the oldest waits no longer, so that few images are in memory.

    Args:
        dataset: Of the training loader.
        chosen: Indices.
        size: Images of a batch.
        collate: Makes a batch of samples.
        branch: View.
        counted: Its one number becomes the images that were used.
        others: The views of the images that were left out are added.
    """
    every: dict[tuple, list] = {}
    for index in chosen:
        sample = dataset[index]
        views = sample.get("inputs") if isinstance(sample, dict) else None
        if isinstance(views, dict):
            if views.get(branch) is None:
                others.update(n for n, view in views.items() if view is not None)
                continue
            parts = ("inputs", "data_samples")
            sample = {k: {branch: v[branch]} for k, v in sample.items() if k in parts}
            views = views[branch]
        shape = tuple(getattr(views, "shape", ()))
        every.setdefault(shape, []).append(sample)
        counted[0] += 1
        if len(every[shape]) == size:
            yield collate(every.pop(shape))
        elif len(every) > _SIZES:
            yield collate(every.pop(next(iter(every))))
    yield from map(collate, every.values())


@HOOKS.register_module()
class AdaBNHook(Hook):
    """Re-estimate batch-norm statistics on unlabelled target images, then train.

    Runs once, at iteration 0; a resumed run keeps the statistics of its checkpoint.

    Args:
        num_images: How many images of the training set are used.
        branch: Which view of a multi-branch batch is used.
        prior: See :func:`adapt_batch_norm`.
    """

    # After TeacherEMAHook (NORMAL) has made the teacher a copy of the student.
    priority = "BELOW_NORMAL"

    def __init__(
        self, num_images: int = 200, branch: str = "weak", prior: int = 0
    ) -> None:
        self.arguments = (num_images, branch, prior)

    def before_train(self, runner: Runner) -> None:
        """Adapt the statistics; see :func:`adapt_batch_norm`."""
        if runner.iter > 0:
            return
        model = unwrapped(runner.model)
        adapt_batch_norm(model, runner.train_dataloader, *self.arguments)

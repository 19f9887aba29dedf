"""One step on one image before a run begins: what cannot learn is said at once."""

import copy

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pld_mmdet.engine.data.randomness import own_randomness
from pld_mmdet.engine.state.checkpoint import load_checkpoint_file
from pld_mmdet.errors import UserError

_STREAM = 6  # see engine/data/seeding.py
BOXES = 3


def try_step(made: Config, name: str, method: str) -> None:
    """Compute the losses of a composed config, with and without pseudo labels.

    A detector of any kind comes through here, also one that this package has never
    seen; what its own loss or prediction raises becomes a sentence before the run, and
    not a trace in its first step. Nothing is kept, and no random number is moved.

    Args:
        made: Composed config.
        name: Of the detector, for the sentence.
        method: Of the adaptation.

    Raises:
        UserError: The detector cannot be adapted like this; says what it raised.
    """
    doing = "built"
    try:
        with (
            own_randomness(0, _STREAM),
            DefaultScope.overwrite_default_scope(made.default_scope),
        ):
            # A runner says it, and TOOD's head asks for it.
            MessageHub.get_current_instance().update_info("epoch", 0)
            model = MODELS.build(copy.deepcopy(made.model))
            state = load_checkpoint_file(made.load_from)
            model.load_state_dict(state.get("state_dict", state))
            model = model.to(get_device())
            doing = "fed with the first image"
            dataset = DATASETS.build(copy.deepcopy(made.train_dataloader.dataset))
            batch = pseudo_collate(
                [dataset[0]] * min(made.train_dataloader.batch_size, 2)
            )
            data = model.data_preprocessor(batch, True)
            if method == "adabn":
                doing = "asked for detections"
                with torch.no_grad():
                    model.eval().predict(data["inputs"], data["data_samples"])
                return
            model.train()
            doing = "asked for detections"
            inputs, samples = data["inputs"], data["data_samples"]
            found = model._teacher_detections(inputs["weak"], samples["weak"])
            doing = "given pseudo labels"
            _finish(
                model, model.student_loss(_best(model, found, inputs), inputs, samples)
            )
            best = torch.cat([f.scores for f in found]).sort(descending=True).values
            if method == "lpld" and len(best):
                model.hpl_threshold = best[min(BOXES, len(best) - 1)].item()
                _finish(model, model.loss(inputs, samples))
            doing = "given an image without pseudo labels"
            _finish(model, model.student_loss([f[:0] for f in found], inputs, samples))
    except UserError:
        raise
    except Exception as error:  # of anybody's detector: all kinds
        said = str(error).strip().splitlines()
        words = f"{type(error).__name__}{f': {said[0]}' if said else ''}"
        raise UserError(
            f"{name} cannot be adapted with {method}: when it was {doing} before the "
            f"run, it raised {words}.",
            "Nothing was trained. Check that the config trains in mmdet; where batch "
            "norm is, --method adabn asks for less.",
        ) from error


def _best(
    model: nn.Module, found: list[InstanceData], inputs: dict[str, Tensor]
) -> list[InstanceData]:
    """The teacher's best boxes of each image; one in the middle where it has none."""
    chosen = []
    for instances in found:
        kept = instances[instances.scores.argsort(descending=True)[:BOXES]]
        if not len(kept) and "masks" not in kept:
            height, width = inputs["weak"].shape[-2:]
            corners = [[width / 4, height / 4, width / 2, height / 2]]
            kept = InstanceData(
                bboxes=instances.bboxes.new_tensor(corners),
                scores=instances.scores.new_ones(1),
                labels=instances.labels.new_zeros(1),
            )
        chosen.append(kept)
    return chosen


def _finish(model: nn.Module, losses: dict) -> None:
    total, _ = model.parse_losses(losses)
    if not total.requires_grad:
        raise ValueError("no loss depends on the weights")

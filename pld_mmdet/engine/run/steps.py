"""Iterations and optimizer steps: one thing until gradients are accumulated.

An *iteration* is a batch of the loader, as everywhere in mmengine: loops, intervals and
schedules count iterations. A *step* moves the weights. With
``optim_wrapper.accumulative_counts=k`` k iterations are one step, and whatever belongs
to a move of the weights (the teacher's update, a new learning rate) happens once a
step, so that k batches of b images are one batch of k * b.
"""

from mmengine.optim import OptimWrapperDict

from pld_mmdet.errors import UserError


def accumulation(runner) -> int:
    """Iterations that make one optimizer step.

    Raises:
        UserError: Several optimizers, one of which accumulates: no step is common.
    """
    if getattr(getattr(runner, "_train_loop", None), "counts_rounds", False):
        return 1  # a round of FederatedLoop is one step, whatever its clients do
    wrapper = getattr(runner, "optim_wrapper", None)
    if isinstance(wrapper, OptimWrapperDict):
        counts = {key: w._accumulative_counts for key, w in wrapper.items()}
        if set(counts.values()) == {1}:
            return 1
        raise UserError(
            f"Several optimizers with accumulative_counts={counts} have no step in "
            "common that a schedule or a teacher could follow.",
            "Leave accumulative_counts out of the parts of optim_wrapper.",
        )
    return getattr(wrapper, "_accumulative_counts", 1)


def begins_step(runner) -> bool:
    """Whether the iteration that comes is the first of its step."""
    return runner.iter % accumulation(runner) == 0


def ends_step(runner) -> bool:
    """Whether the iteration that just ran moved the weights."""
    done, size = runner.iter + 1, accumulation(runner)
    return done % size == 0 or done == runner.max_iters


def len_epoch(runner) -> int:
    """Iterations of one pass over the training set on all processes."""
    loader = runner.train_dataloader
    batch = loader.batch_size or loader.batch_sampler.batch_size
    total = batch * runner.world_size
    return max(1, -(-len(loader.dataset) // total))

"""AdaBN as an algorithm of its own: no step, no loss, one pass over some images."""

from pld_mmdet.detection.hooks.adabn import adapt_batch_norm
from pld_mmdet.engine.loops.counted import CountedLoop
from pld_mmdet.engine.run.models import unwrapped
from pld_mmdet.registry import LOOPS


@LOOPS.register_module()
class AdaBNLoop(CountedLoop):
    """Re-estimate batch-norm statistics on the training images and save.

    The checkpoint is ``iter_1.pth``, found through ``last_checkpoint`` like any other.

    Args:
        runner: The runner.
        dataloader: Unlabelled images; its sampler is not used.
        num_images: How many images, spread evenly over the data set.
        branch: View that is used when the pipeline makes several.
        prior: See :func:`~pld_mmdet.detection.hooks.adabn.adapt_batch_norm`.
    """

    uses_labels = False
    val_interval = 1
    _max_iters = 1

    def __init__(
        self,
        runner,
        dataloader,
        num_images: int = 200,
        branch: str = "weak",
        prior: int = 0,
    ):
        super().__init__(runner, dataloader)
        runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo
        self.arguments = (num_images, branch, prior)

    def run(self):
        """Adapt, save, evaluate on val when there is a val loop."""
        runner = self.runner
        runner.call_hook("before_train")
        if self._iter < self.max_iters:
            model = unwrapped(runner.model)
            adapt_batch_norm(model, self.dataloader, *self.arguments)
            # a runner saves before the loop counts, and writes one more
            runner.save_checkpoint(
                runner.work_dir, "iter_1.pth", save_optimizer=False, by_epoch=False
            )
            self._iter = self.max_iters
        if runner.val_loop is not None:
            runner.val_loop.run()
        runner.call_hook("after_train")
        return runner.model

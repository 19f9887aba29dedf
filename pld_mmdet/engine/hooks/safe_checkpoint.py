"""mmengine's checkpoint hook, in an order that never leaves nothing."""

import os
from collections import deque
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from pld_mmdet.engine.config.preflight import check_schedules
from pld_mmdet.engine.state.files import write_atomic
from pld_mmdet.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Writes the new checkpoint first, deletes the oldest afterwards.

    mmengine deletes first: with ``max_keep_ckpts=1`` a full disk then costs both. The
    file ``last_checkpoint`` is replaced in one step, and ``last.pth`` is a link to the
    newest checkpoint, so that other configs can name it.

    Args:
        kwargs: As in ``mmengine.hooks.CheckpointHook``; local folders only.
    """

    def before_train(self, runner) -> None:
        """Refuse, before the first step, a schedule that no checkpoint could hold."""
        check_schedules(runner.cfg)
        super().before_train(runner)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        expired: list[int] = []
        if self.max_keep_ckpts > 0:
            kept = [k for k in self.keep_ckpt_ids if k != step] + [step]
            expired, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            runner.message_hub.update_info("keep_ckpt_ids", kept)
        name = self.filename_tmpl.format(step)
        before = self.last_ckpt
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                **self.args,
            )
        except BaseException:
            self.last_ckpt = before
            runner.message_hub.update_info("last_ckpt", before)
            raise
        if not is_main_process():
            return
        record = Path(runner.work_dir) / "last_checkpoint"
        write_atomic(record, lambda f: f.write(self.last_ckpt.encode()), sync=True)
        link(Path(self.last_ckpt), Path(self.out_dir) / "last.pth", runner.logger)
        for old in expired:
            Path(self.out_dir, self.filename_tmpl.format(old)).unlink(missing_ok=True)


def link(target: Path, name: Path, logger) -> None:
    """Point the symbolic link ``name`` at ``target`` (same folder) in one step."""
    temporary = name.with_name(f".{name.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.name)
        os.replace(temporary, name)
    except OSError as error:  # a file system without links
        logger.warning(f"{name} was not linked to {target.name}: {error}")

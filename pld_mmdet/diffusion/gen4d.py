"""4DGen: a moving object from one video and the views of a careless labeller."""

import torch
from mmengine.dist import all_reduce, broadcast
from torch import Tensor, nn

from pld_mmdet.diffusion.processes.losses import score_gradient_loss, ssim
from pld_mmdet.diffusion.rendering.splatting import (
    Gaussians,
    orbit,
    render,
    rotation_matrices,
)
from pld_mmdet.engine.run.method import Method
from pld_mmdet.engine.run.optional import require
from pld_mmdet.errors import UserError
from pld_mmdet.registry import MODELS


@MODELS.register_module()
class Gen4D(Method):
    r"""Grounded 4D content generation (Yin et al. 2023, arXiv 2312.17225).

    Gaussians and a field that moves them. Stages of ``StagedLoop``::

        prior     optional: a small prior is trained on other objects
        static    the first frame: video and pseudo views; cloned, split and pruned
        coarse    Gaussians and field, random frames and views
        fine      the share ``sds_share`` of steps: score distillation from cameras
                  anywhere; the others: tracks at a random frame rate and start

        L = L_recon (view 0) + pseudo L_sync (other views) + chamfer L_chamfer
            + smooth L_smooth + tv L_TV                       coarse and fine
        SDS: grad = (1 - abar_t) (eps_hat - eps), L = sum (z - sg[z - grad])^2

    The prior is conditioned on view 0 of the same time. Rendering takes any time.

    Deviations. The released code (VITA-Group/4DGen, e6c20a3; read for facts only) has
    smoothness, plane variation and Chamfer switched off and concatenates planes; the
    paper's are on here, and planes are multiplied. The paper does not give their
    weights. Densification looks at the gradient of the position in space, not on the
    screen, and is bounded by ``capacity``, so that shapes of a checkpoint never change.
    The fine stage's other steps fit anchors as well.

    Args:
        field: Config of a ``HexPlaneField``.
        count: Gaussians at the start, random in a ball.
        capacity: Most Gaussians [count].
        ball: Its radius [1].
        scale: Standard deviation at the start.
        opacity: At the start [0.5]: no opacity at all fits a white background well.
        prior: Config of a ``Prior`` [none: no score distillation].
        process: Config of the prior's ``EpsProcess``.
        size, fov, radius: Of the cameras [512, 40 degrees, 2.5].
        l1, perceptual: Weights of |difference| [10] and LPIPS [20; needs lpips].
        ssim, even: Weights of 1 - SSIM and of LPIPS once more, in all views alike
            [0; released: 2 and 2].
        front: Factor of view 0's photometric loss [10].
        pseudo: Of the other views' [1].
        chamfer, smooth, tv: Weights of the consistency terms.
        sds: Weight of score distillation [0.5].
        sds_share: Of the fine steps [0.8].
        guidance: Of the prior [2].
        elevations: Of the cameras of score distillation, degrees [30].
        rate: Largest interval of three frames of a track [1 / 16].
        densify_every: Steps of the static stage between densifications [100]; 0: none.
        densify_from: Mean gradient of a position from which a Gaussian is doubled.
        prune_below: Opacity [0.005].
    """

    def __init__(
        self,
        field: dict,
        count: int,
        capacity: int | None = None,
        ball: float = 1.0,
        scale: float = 0.05,
        opacity: float = 0.5,
        prior: dict | None = None,
        process: dict | None = None,
        size: int = 512,
        fov: float = 40.0,
        radius: float = 2.5,
        l1: float = 10.0,
        perceptual: float = 20.0,
        ssim: float = 0.0,
        even: float = 0.0,
        front: float = 10.0,
        pseudo: float = 1.0,
        chamfer: float = 1.0,
        smooth: float = 1.0,
        tv: float = 1.0,
        sds: float = 0.5,
        sds_share: float = 0.8,
        guidance: float = 2.0,
        elevations: float = 30.0,
        rate: float = 1 / 16,
        densify_every: int = 100,
        densify_from: float = 2e-4,
        prune_below: float = 0.005,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        total = capacity or count
        if not 0 < count <= total:
            raise UserError(
                f"Gen4D: count={count}, capacity={capacity}.", "0 < count <= capacity."
            )
        if sds and (prior is None) != (process is None):
            raise UserError(
                "Gen4D: a prior needs its process, and the other way round.",
                "Set model.prior and model.process, or neither.",
            )
        direction = nn.functional.normalize(torch.randn(total, 3), dim=1)
        means = ball * torch.rand(total, 1) ** (1 / 3) * direction
        turns = torch.tensor([[1.0, 0, 0, 0]]).repeat(total, 1)
        self.means, self.turns = nn.Parameter(means), nn.Parameter(turns)
        self.scales = nn.Parameter(torch.full((total, 3), scale).log())
        self.opacities = nn.Parameter(torch.logit(torch.full((total,), opacity)))
        self.colours = nn.Parameter(torch.randn(total, 3))
        self.register_buffer("alive", torch.arange(total) < count)
        self.register_buffer("steepness", torch.zeros(total))
        self.field = MODELS.build(field)
        self.prior = MODELS.build(prior) if prior else None
        self.process = MODELS.build(process) if process else None
        self.size, self.fov, self.radius, self.ball = size, fov, radius, ball
        self.l1, self.front, self.pseudo = l1, front, pseudo
        self.chamfer, self.smooth, self.tv = chamfer, smooth, tv
        self.sds, self.sds_share, self.guidance = sds, sds_share, guidance
        self.elevations, self.rate, self.perceptual = elevations, rate, perceptual
        self.ssim, self.even = ssim, even
        self.densify_every, self.densify_from = densify_every, densify_from
        self.prune_below, self._lpips = prune_below, None

    def gaussians(self, time: Tensor | None = None) -> Gaussians:
        """Those that are alive; at times [V] means and rotations are [V, N, ...]."""
        alive = self.alive
        means, turns = self.means[alive], self.turns[alive]
        if time is not None:
            moved, turned = self.field(means, time)
            means, turns = means + moved, turns + turned
        opacities, colours = self.opacities[alive], self.colours[alive]
        scales = self.scales[alive].exp()
        return Gaussians(means, turns, scales, opacities.sigmoid(), colours.sigmoid())

    def render(self, gaussians: Gaussians, cameras: Tensor) -> Tensor:
        """Colour on white, and alpha [V, 4, size, size]."""
        return render(gaussians, cameras, self.size, self.fov)

    def photometric(self, pictures: Tensor, inputs: Tensor, video: Tensor) -> Tensor:
        """L_recon and L_sync of pictures [V, 4, H, W], a scalar."""
        weight = torch.where(video, self.front, self.pseudo).to(pictures)
        loss = weight * self.l1 * (pictures - inputs).abs().flatten(1).mean(1)
        if self.perceptual or self.even:
            far = self._far(pictures[:, :3], inputs[:, :3])
            loss = loss + (weight * self.perceptual + self.even) * far
        if self.ssim:
            loss = loss + self.ssim * (1 - ssim(pictures, inputs))
        return loss.mean()

    def _far(self, seen: Tensor, true: Tensor) -> Tensor:
        """LPIPS of colours [V, 3, H, W] in [0, 1], [V]."""
        if self._lpips is None:
            lpips = require("lpips", "diffusion").LPIPS(net="alex", verbose=False)
            # in a list: no part of the model and its checkpoints
            self._lpips = [lpips.to(seen.device).requires_grad_(False)]
        return self._lpips[0](2 * seen - 1, 2 * true - 1).flatten()

    def loss_prior(
        self, inputs: Tensor, reference: Tensor, angles: Tensor, **_
    ) -> dict[str, Tensor]:
        """Noise prediction on other objects; the reference is left out one in ten."""
        if self.prior is None:
            raise UserError("Gen4D: no prior to train.", "Set model.prior.")
        z = self.prior.encode(inputs[:, :3])
        level = torch.randint(self.process.num_levels, (len(z),), device=z.device)
        noise = torch.randn_like(z)
        shown = None if self.progress.step % 10 == 9 else reference[:, :3]
        noised = self.process.add_noise(z, level, noise)
        guess = self.prior.noise(noised, level, shown, angles)
        return {"loss_prior": (guess - noise).square().mean()}

    def loss_static(
        self, inputs: Tensor, camera: Tensor, video: Tensor, **_
    ) -> dict[str, Tensor]:
        """The first frame, without the field."""
        gaussians = self.gaussians()
        if gaussians.means.requires_grad:
            gaussians.means.register_hook(self._remember)
        pictures = self.render(gaussians, camera)
        return {"loss_photometric": self.photometric(pictures, inputs, video)}

    def step_static(self, batch: dict, optim_wrapper) -> dict[str, Tensor]:
        """One step; now and then Gaussians are doubled and pruned."""
        logs = self.step(optim_wrapper, lambda: self.loss_static(**batch))
        every, done = self.densify_every, self.progress.step + 1
        if every and done % every == 0:
            self.densify(optim_wrapper.optimizer, every)
        return logs | {"gaussians": self.alive.sum().float()}

    def loss_coarse(
        self,
        inputs: Tensor,
        camera: Tensor,
        time: Tensor,
        video: Tensor,
        points: Tensor,
        **_,
    ) -> dict[str, Tensor]:
        """Anchors: photometric loss, point clouds, calm planes."""
        gaussians = self.gaussians(time)
        pictures = self.render(gaussians, camera)
        losses = {"loss_photometric": self.photometric(pictures, inputs, video)}
        if self.chamfer:
            pairs = zip(gaussians.means, points, strict=True)
            total = sum(chamfer(ours, theirs) for ours, theirs in pairs)
            losses["loss_chamfer"] = self.chamfer * total / len(points)
        if self.tv:
            losses["loss_tv"] = self.tv * self.field.total_variation()
        if self.smooth:
            bends = self.field.bends()
            calm = sum(smoothness(bend) / bend.numel() for bend in bends)
            losses["loss_smooth"] = self.smooth * calm
        return losses

    def loss_fine(self, **batch) -> dict[str, Tensor]:
        """Score distillation from anywhere, or anchors and tracks between them."""
        step, share = self.progress.step, self.sds_share
        turn = int((step + 1) * share) > int(step * share)  # all processes take it
        if self.prior is not None and turn:
            losses = self.loss_coarse(**batch)
            losses.pop("loss_photometric")
            return losses | {"loss_sds": self.sds * self.distilled(**batch)}
        losses = self.loss_coarse(**batch)
        if self.smooth:
            step = self.rate * torch.rand(())
            start = torch.rand(()) * (1 - 2 * step)
            time = (start + step * torch.arange(3.0)).to(batch["time"])
            track = self.gaussians(time).means
            losses["loss_track"] = self.smooth * smoothness(track) / track[0].numel()
        return losses

    def distilled(self, time: Tensor, reference: Tensor, **_) -> Tensor:
        """Score distillation (Poole et al. 2022) of one random view of each frame."""
        count = len(time)
        angles = 2 * torch.rand(count, 2, device=time.device) - 1
        angles = angles * angles.new_tensor([self.elevations, 180.0])
        cameras = orbit(angles[:, 0], angles[:, 1], self.radius)
        pictures = self.render(self.gaussians(time), cameras)
        z = self.prior.encode(pictures[:, :3])
        with torch.no_grad():
            most = self.process.num_levels
            low, high = round(0.2 * most), round(0.6 * most)
            level = torch.randint(low, high + 1, (count,), device=z.device)
            noise = torch.randn_like(z)
            noised = self.process.add_noise(z, level, noise)
            guess = self.prior.guided(
                noised, level, reference[:, :3], angles, self.guidance
            )
            kept = self.process.a[level].square()[:, None, None, None]
            grad = torch.nan_to_num((1 - kept) * (guess - noise))
        return score_gradient_loss(z, grad) / count

    @torch.no_grad()
    def densify(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Clone small, split large Gaussians with steep positions; drop invisible ones.

        Args:
            optimizer: Its state of new Gaussians begins at 0.
            steps: Since the last time.
        """
        self.alive &= self.opacities.sigmoid() >= self.prune_below
        all_reduce(self.steepness, op="mean")
        steep = self.alive * self.steepness / steps
        hot = (steep > self.densify_from).nonzero().flatten()
        hot = hot[steep[hot].argsort(descending=True)]
        free = (~self.alive).nonzero().flatten()
        number = min(len(hot), len(free))
        hot, free = hot[:number], free[:number]
        parts = (self.means, self.turns, self.scales, self.opacities, self.colours)
        for part in parts:
            part[free] = part[hot]
        large = self.scales[hot].exp().amax(1) > 0.01 * self.ball
        for rows in (hot[large], free[large]):  # both halves are drawn anew
            spread = torch.randn_like(self.means[rows])
            broadcast(spread)
            spread = spread * self.scales[rows].exp()
            turn = rotation_matrices(self.turns[rows])
            self.means[rows] += (turn @ spread[..., None])[..., 0]
            self.scales[rows] -= torch.log(self.scales.new_tensor(1.6))
        self.alive[free] = True
        for part in parts:
            for value in optimizer.state.get(part, {}).values():
                if value.shape == part.shape:
                    value[torch.cat([free, hot[large]])] = 0
        self.steepness.zero_()

    def predict(self, inputs: Tensor, camera: Tensor, time: Tensor, **batch) -> list:
        """The picture of each camera and time, beside the true one."""
        pictures = self.render(self.gaussians(time), camera)[:, :3]
        marks = {name: batch[name] for name in ("space", "between") if name in batch}
        return [{"samples": pictures, "references": inputs[:, :3], **marks}]

    def _remember(self, gradient: Tensor) -> None:
        self.steepness[self.alive] += gradient.norm(dim=-1)


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance to the nearest point of the other cloud, both directions.

    Args:
        a: Points [N, 3].
        b: Points [M, 3].

    Returns:
        A scalar: the two means, added.

    Raises:
        UserError: An empty cloud, or points of another dimension.
    """
    shaped = a.dim() == b.dim() == 2 and a.shape[1] == b.shape[1]
    if not (shaped and len(a) and len(b)):
        raise UserError(
            f"chamfer: clouds {tuple(a.shape)} and {tuple(b.shape)}.",
            "Give [N, 3] and [M, 3] with at least one point each.",
        )
    with torch.no_grad():
        apart = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        of_a, of_b = apart.argmin(1), apart.argmin(0)
    there = (a - b[of_a]).square().sum(1).mean()
    return there + (b - a[of_b]).square().sum(1).mean()


def smoothness(track: Tensor) -> Tensor:
    """Sum of squared second differences over time: 0 for steady motion.

    Args:
        track: [T, ...].

    Returns:
        A scalar; 0 with a gradient path where T is below 3.
    """
    return (track[2:] - 2 * track[1:-1] + track[:-2]).square().sum()

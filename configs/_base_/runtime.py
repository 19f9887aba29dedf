# How every run behaves, whatever it trains: seeds, logs, checkpoints, safety.
default_scope = "mmdet"
runner_type = "pld_mmdet.SafeRunner"

# Seeds the weights, the order of the images, every sample and every iteration.
randomness = dict(seed=0)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo is taken where there is no GPU
)

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # by_epoch=False, interval=N in schedules that count iterations
    checkpoint=dict(type="pld_mmdet.SafeCheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="DetVisualizationHook"),
)
custom_hooks = [
    dict(type="pld_mmdet.IterationSeedHook"),
    dict(type="pld_mmdet.RunRecordHook"),
]

vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(
    type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer"
)
# by_epoch=False in schedules that count iterations
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
log_level = "INFO"

load_from = None
resume = False

# How a run of a method outside detection behaves: as runtime.py, without detections to
# draw. Batches are dicts of stacked tensors (pld_mmdet.engine.run.method).
default_scope = "mmengine"
runner_type = "pld_mmdet.SafeRunner"

# A folder of your own images, <class>/<name>.png, in the place of digits or crops.
image_folder = None

# Seeds the weights, the order of the samples and every iteration.
randomness = dict(seed=0)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo is taken where there is no GPU
)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="pld_mmdet.SafeCheckpointHook",
        by_epoch=False,
        interval=200,
        max_keep_ckpts=1,
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [
    dict(type="pld_mmdet.IterationSeedHook"),
    dict(type="pld_mmdet.RunRecordHook"),
]
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="Visualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
log_level = "INFO"
load_from = None
resume = False

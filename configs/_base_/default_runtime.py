"""Settings common to all runs: scope, log, checkpoints, seed."""

default_scope = "pe_unified"
custom_imports = dict(
    imports=["pe_unified.datasets", "pe_unified.models", "pe_unified.evaluation"],
    allow_failed_imports=False,
)

seed = 0
randomness = dict(seed=seed)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=1),
    dist_cfg=dict(backend="nccl"),
)

step = None
reuse = dict()
load_from = None
resume = False
trust_checkpoint = False

log_level = "INFO"
log_processor = dict(by_epoch=False, window_size=20)
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="WholeCheckpointHook", interval=1000, max_keep=2, save_best=None),
    mean_loss=dict(type="MeanLossHook"),
    mean_buffers=dict(type="MeanBuffersHook"),
    nan_guard=dict(type="NaNGuardHook"),
    progress=dict(type="ProgressHook"),
    exam_flow=dict(type="ExamFlowHook"),
    average=dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=0.002, gamma=10),
)
custom_hooks = []  # added to those above; None as a value removes one of those
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="Visualizer", vis_backends=vis_backends)

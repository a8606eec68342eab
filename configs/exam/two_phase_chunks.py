"""Phase one of the two-phase system: is there embolism in a chunk of 10 mm? 3D ResNet-18.

Ma et al., Sci Rep 2022 (doi 10.1038/s41598-022-16976-9): ten planes 1 mm apart, 192 x 192, three
windows, Kinetics weights; the first step of two_phase.py.

pe-unified train exam/two_phase_chunks --data-root data/pe

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_exams.py",
    "../_base_/schedules/adamw_cosine.py",
]

input_size = 192
windows = ["lung", "pe", "mediastinal"]
neighbours = None
batch_size = 16
lr = 4e-4
pretrained = "torchvision://r3d_18"
frozen_stages = -1

chunks = dict(_delete_=True, type="ChunkSteps", planes=10, spacing_mm=1.0, span="lungs")
train_dataloader = dict(
    sampler=dict(type="ClassBalancedSampler"),
    dataset=dict(steps=chunks, unit="step", needs=("steps",)),
)
val_dataloader = dict(batch_size=16, dataset=dict(steps=chunks, unit="step", needs=("steps",)))
test_dataloader = dict(batch_size=16, dataset=dict(steps=chunks, unit="step", needs=("steps",)))

model = dict(
    type="PEExam",
    data_preprocessor=dict(
        type="PEExamPreprocessor",
        mean=[110.2, 100.6, 96.0],  # of Kinetics-400, in grey levels
        std=[58.1, 56.5, 55.3],
    ),
    encoder=dict(type="R3D18Encoder", pretrained=pretrained, frozen_stages=frozen_stages),
    step_head=dict(type="StepHead"),
)
val_evaluator = [dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="StepMetric")]

"""Phase two of the two-phase system: exam labels from features of chunks. TCN, attention per label.

pe-unified train exam/two_phase_tcn --data-root data/pe --cfg-options features=FOLDER

FOLDER is the output of pe-unified extract exam/two_phase_chunks; two_phase.py does both.

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_features.py",
    "../_base_/schedules/adamw_cosine.py",
]

lr = 5e-4
max_iters = 6000

model = dict(
    type="PEExam",
    in_channels=512,
    aggregator=dict(type="TCNAggregator", width=128, dilations=(1, 2), dropout=0.2),
    step_head=dict(type="StepHead", dropout=0.2),
    exam_head=dict(
        type="ExamHead",
        pool="attention+max",
        positions=40,
        dropout=0.2,
        losses=[dict(type="RSNAExamLoss", positive_weight=0.25)],
    ),
)

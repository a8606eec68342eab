"""The two-phase system: chunks, their features, then exams from these, in three variants.

pe-unified steps exam/two_phase --data-root data/pe

Time: not measured.
Result: unknown.
"""

steps = [
    dict(name="chunks", config="two_phase_chunks.py"),
    dict(
        name="features",
        config="two_phase_chunks.py",
        extract=True,
        reuse=dict(encoder="chunks"),
    ),
    dict(name="published", config="two_phase_published.py", features="features"),
    dict(name="tcn", config="two_phase_tcn.py", features="features"),
    dict(name="gru", config="two_phase_gru.py", features="features"),
]
comparisons = [("exam/auc", "published", "tcn"), ("exam/auc", "published", "gru")]

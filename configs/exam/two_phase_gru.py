"""As two_phase_tcn.py, with a bidirectional GRU.

pe-unified train exam/two_phase_gru --data-root data/pe --cfg-options features=FOLDER

Time: not measured.
Result: unknown.
"""

_base_ = "two_phase_tcn.py"

model = dict(aggregator=dict(_delete_=True, type="GRUAggregator", width=128))

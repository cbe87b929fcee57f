"""The update beside trl's GRPOTrainer: time, memory and growth, from the same weights and the same trajectories.

`batches.py` has the trajectories, `sides.py` the two updates; `python -m benchmarks.update` runs them.
"""

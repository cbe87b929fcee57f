"""PPO with a KL penalty, in the order of the paper.

`batch.py` trajectories -> tensors; `kl.py` estimators and controller; `advantage.py` masked GAE and whitening;
`loss.py` clipped objectives and their aggregation; `optimizer.py` AdamW and its state; `guards.py` stop rules;
`trainer.py` one update, on one page.
May import: policy and lower floors.
"""

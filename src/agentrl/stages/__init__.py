"""What trl trains for us. `sft.py` makes baselines. May import: data, policy and lower floors."""

"""A model that learns from examples which episodes are good, and whether it may be trusted with a reward.

    episodes.py      recorded rollouts, and what graders and people said of them
    comparisons.py   episodes of one task to pairs of which one is better
    split.py         what is held out: whole tasks and documents, and whatever nearly repeats them
    data_file.py     episodes and comparisons on disk
    start.py         the classifier that training starts from
    training.py      from such files to a folder: trl's RewardTrainer, then the hold-out
    trainers.py      trl's trainer with our order, checkpoints and objective
    calibration.py   accuracy, NLL, Brier, ECE, temperature: numbers to figures
    measure.py       what the hold-out shows
    gate.py          whether that is enough to grade with it
    page.py          the report as Markdown and HTML
    reliability_chart.py  what was claimed against what came true, as SVG

Read `training.py` first, then `measure.py`. What grades with the folder is `agentrl.grading.reward_model`.
May import: evaluation, stages and lower floors.
"""

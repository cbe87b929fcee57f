"""What trl trains for us: baselines (`sft.py`) and preferences over segments of episodes (`dpo.py`).

    sft.py, dpo.py     one stage each: its data, its trainer
    start.py           what is loaded and checked before the first step
    course.py          a stage in its run directory: steps, resume, output
    trainers.py        trl's trainers with our order, checkpoints and masks
    order.py           which examples make up which step
    record.py          metrics and progress of every step, when to save and to stop
    checkpoint.py      what a stage needs to go on, without pickles
    conversations.py   JSONL of messages to token ids and labels
    episodes.py        recorded rollouts, read again
    pairs.py           episodes to pairs of segments
    pair_file.py       pairs on disk, and their checks

Read `sft.py` first, then `course.py`. May import: data, runs, policy and lower floors.
"""

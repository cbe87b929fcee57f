"""What trl trains for us: baselines (`sft.py`) and preferences over segments of episodes (`dpo.py`).

    conversations.py   JSONL of messages -> token ids and labels        pairs.py      traces -> pairs of segments
    trainers.py        trl's trainers with our masks and checkpoints    pair_file.py  pairs on disk, and their checks
    course.py          one stage in its run directory: start, steps, resume, output
    order.py           which examples make up which step

Read `sft.py` first, then `course.py`. May import: data, runs, policy and lower floors.
"""

"""A grader with a hole, and a policy that finds it: `python -m examples.reward_hacking`."""

"""Which plots a run has: their titles, and the keys of metrics.jsonl that their lines show (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    key: str
    """Of metrics.jsonl; one that ends in `*` stands for every key that begins so, labelled by what follows."""


@dataclass(frozen=True)
class Plot:
    """Curves that share their axes, or layers of one bar a step."""

    name: str
    """In addresses and file names."""
    title: str
    lines: tuple[Line, ...]
    y_range: tuple[float, float] | None = None
    """That the axis shows at least."""
    is_stack: bool = False
    rule: str = ""
    """Of `ppo.guards`, whose limits are drawn; one that looks at the first line as it is recorded."""


@dataclass(frozen=True)
class Section:
    """Plots that answer one question."""

    title: str
    plots: tuple[Plot, ...]


def _plot(name: str, title: str, *lines: str, **options: object) -> Plot:
    """Lines as `label=key`; a label of its own is needed where there are several."""
    pairs = (line.rpartition("=") for line in lines)
    return Plot(name, title, tuple(Line(label, key) for label, _, key in pairs), **options)  # type: ignore[arg-type]


ZERO, UNIT = (0.0, 0.0), (0.0, 1.0)

SECTIONS = (
    Section(
        "Reward",
        (
            _plot(
                "reward",
                "Reward",
                "validation=reward_validation",
                "train=reward_train",
                "train, score=score_train",
                "validation, hold-out=holdout_score_validation",
            ),
            _plot("success", "Success rate in training", "=success_rate", y_range=UNIT),
            _plot("sub-scores", "Sub-scores of the grader", "=score_part_*"),
            _plot("hold-outs", "Hold-out graders", "=holdout_score_of_*"),
            _plot("holdout-gap", "Score less hold-out score, validation", "=holdout_gap_validation", y_range=ZERO),
            _plot("spread", "Standard deviation of scores", "=score_train_std", y_range=ZERO),
        ),
    ),
    Section(
        "Supervised training",  # the stages: sft, dpo
        (
            _plot("stage-loss", "Loss", "train=train_loss", "validation=validation_loss"),
            _plot(
                "token-accuracy",
                "Tokens that were the likeliest, fraction",
                "train=token_accuracy",
                "validation=validation_token_accuracy",
            ),
            _plot("margin", "Margin of pairs", "train=reward_margin", "validation=validation_reward_margin"),
            _plot(
                "pair-accuracy",
                "Pairs in the right order, fraction",
                "train=reward_accuracy",
                "validation=validation_reward_accuracy",
                y_range=UNIT,
            ),
            _plot(
                "pair-logprobs",
                "Log-probability of an answer, nats",
                "chosen=logprob_chosen",
                "rejected=logprob_rejected",
            ),
        ),
    ),
    Section(
        "The policy",
        (
            _plot("kl", "KL to reference per token, nats", "=kl_per_token", y_range=ZERO, rule="kl"),
            _plot(
                "kl-episode",
                "KL to reference per episode, nats",
                "=kl_per_trajectory",
                y_range=ZERO,
                rule="kl_per_trajectory",
            ),
            _plot("kl-coef", "Coefficient of the KL penalty", "=kl_coef", y_range=ZERO),
            _plot("entropy", "Entropy, nats per token", "=entropy", y_range=ZERO),
        ),
    ),
    Section(
        "The update",
        (
            _plot("grad-norm", "Gradient norm before clipping", "=grad_norm", y_range=ZERO, rule="grad_norm"),
            _plot("approx-kl", "KL of the update, nats per token", "=approx_kl", y_range=ZERO, rule="approx_kl"),
            _plot(
                "clip",
                "Clipped tokens",
                "all minibatches=clip_fraction",
                "first minibatch=first_clip_fraction",
                y_range=ZERO,
                rule="clip_fraction",
            ),
            _plot("loss", "Loss", "total=loss", "policy=policy_loss", "value=value_loss", "KL=kl_loss"),
            _plot(
                "explained-variance",
                "Explained variance of the critic",
                "=explained_variance",
                y_range=UNIT,
                rule="explained_variance",
            ),
            _plot("learning-rate", "Learning rate", "=learning_rate", y_range=ZERO),
            _plot(
                "optimizer-steps",
                "Optimizer steps",
                "taken=optimizer_steps",
                "skipped=skipped_optimizer_steps",
                y_range=ZERO,
            ),
        ),
    ),
    Section(
        "Engine against trainer",
        (
            _plot(
                "mismatch-prob",
                "Mean difference of a token's probability",
                "=mismatch_abs_prob_mean",
                y_range=ZERO,
                rule="mismatch_prob",
            ),
            _plot("mismatch-kl", "KL of engine to trainer, nats", "=mismatch_kl", y_range=ZERO, rule="mismatch_kl"),
            _plot(
                "mismatch-logprob",
                "Difference of log-probabilities, nats",
                "mean=mismatch_abs_logprob_mean",
                "99th percentile=mismatch_abs_logprob_p99",
                "largest=mismatch_abs_logprob_max",
                y_range=ZERO,
            ),
            _plot(
                "mismatch-ess",
                "Effective sample size of the weights",
                "tokens=mismatch_ess",
                "trajectories=mismatch_ess_trajectories",
                y_range=UNIT,
                rule="mismatch_ess",
            ),
            _plot(
                "mismatch-pearson",
                "Correlation of probabilities",
                "=mismatch_pearson",
                y_range=(0.99, 1.0),
                rule="mismatch_pearson",
            ),
            _plot(
                "mismatch-weight",
                "Mean importance weight",
                "=mismatch_weight_mean",
                y_range=(0.99, 1.01),
                rule="mismatch_weight",
            ),
            _plot(
                "recompute",
                "Largest |ratio - 1| before any change",
                "=ratio_recompute_maxdev",
                y_range=ZERO,
                rule="recompute",
            ),
        ),
    ),
    Section(
        "Episodes",
        (
            _plot("tool-calls", "Tool calls per episode", "total=tool_calls", "=tool_calls_*", y_range=ZERO),
            _plot("repeats", "Calls of the tool called just before", "=same_tool_repeats", y_range=ZERO),
            _plot("tokens", "Tokens per episode", "sampled=output_tokens", "thoughts=reasoning_tokens", y_range=ZERO),
            _plot("latency", "Latency per episode, seconds", "=latency_seconds", y_range=ZERO),
            _plot(
                "behaviour",
                "What went wrong in episodes, fraction",
                "ran into a limit=policy_failed_fraction",
                "calls malformed=malformed_call_fraction",
                "4-grams repeated=repeated_ngram_fraction",
                "mixed versions=mixed_version_fraction",
                y_range=ZERO,
            ),
            _plot(
                "variance",
                "Tasks whose samples all earned the same",
                "all=zero_variance_fraction",
                "all scored 0=groups_zero_variance_all0",
                "all scored 1=groups_zero_variance_all1",
                "neither=groups_zero_variance_mixed",
                y_range=UNIT,
                rule="zero_variance",
            ),
        ),
    ),
    Section(
        "Infrastructure",
        (
            _plot(
                "lost",
                "Rollouts lost, fraction by class",
                "all=infra_failed_fraction",
                "=infra_failed_*",
                y_range=ZERO,
                rule="ungraded_rollouts",
            ),
            _plot("grader-errors", "Grader errors, rollouts by flag", "=grader_errors_*", y_range=ZERO),
            _plot("retries", "Retries per episode", "=retries", y_range=ZERO),
            _plot(
                "stale",
                "Rollouts left out or done again",
                "stale=stale_trajectories",
                "rolled out again=rolled_out_again",
                "without signal=trajectories_without_signal",
                "mismatch=mismatch_dropped",
                y_range=ZERO,
            ),
            _plot(
                "time",
                "Seconds a step, by phase",
                "rollout=seconds_rollout",
                "update=seconds_update",
                "evaluation=seconds_evaluation",
                is_stack=True,
            ),
            _plot(
                "phases",
                "Seconds a step, profiled",
                "generation=seconds_generation",
                "tools=seconds_tools",
                "grading=seconds_grading",
                "log-probabilities=seconds_old_logprobs",
                "reference=seconds_reference",
                "backward=seconds_backward",
                "optimizer=seconds_optimizer",
                "weights to the engine=seconds_sync",
                "checkpoint=seconds_checkpoint",
                "the rest=seconds_other",
                is_stack=True,
            ),
            _plot(
                "grading-latency",
                "Seconds a grading",
                "train=latency_grading_seconds",
                "validation=latency_grading_seconds_validation",
                y_range=ZERO,
            ),
            _plot(
                "cost",
                "Cost, US dollars",
                "episode=cost_usd",
                "gradings of the step=grading_cost_usd",
                y_range=ZERO,
            ),
            _plot(
                "memory",
                "Memory, bytes",
                "rollout=memory_rollout_bytes",
                "log-probabilities=memory_logprobs_bytes",
                "update=memory_update_bytes",
                y_range=ZERO,
            ),
        ),
    ),
)
ENDS = ("_low", "_high", "_stderr")
"""Behind a key: of the interval around it, which is drawn as a band, and its standard error."""


def expanded(plot: Plot, keys: Iterable[str]) -> tuple[Line, ...]:
    """The lines for which one of the keys was recorded; `*` stands for those that no other line of the plot shows."""
    recorded = list(keys)
    named = {line.key for line in plot.lines}
    found: list[Line] = []
    for line in plot.lines:
        if not line.key.endswith("*"):
            found += [Line(line.label or line.key, line.key)] * (line.key in recorded)
            continue
        begin = line.key[:-1]
        found += [
            Line(key.removeprefix(begin), key) for key in sorted(recorded) if key.startswith(begin) and key not in named
        ]
    return tuple(found)


def sections_of(keys: Iterable[str]) -> tuple[Section, ...]:
    """The sections with a plot for which something was recorded; what no plot names is in a last one, each alone."""
    recorded = list(keys)
    found, seen = [], {"step"}
    for section in SECTIONS:
        plots = []
        for plot in section.plots:
            if lines := expanded(plot, recorded):
                plots.append(plot)
                seen |= {line.key for line in lines}
        if plots:
            found.append(Section(section.title, tuple(plots)))
    other = [key for key in sorted(recorded) if key not in seen and not _is_end(key, seen)]
    if other:
        found.append(Section(OTHER, tuple(Plot(f"key:{key}", key, (Line(key, key),)) for key in other)))
    return tuple(found)


OTHER = "Everything else that was recorded"


def _is_end(key: str, seen: set[str]) -> bool:
    return any(key.endswith(end) and key.removesuffix(end) in seen for end in ENDS)


def find_plot(name: str, keys: Iterable[str]) -> Plot | None:
    """The plot of that name, if something was recorded for it."""
    plots = (plot for section in sections_of(keys) for plot in section.plots)
    return next((plot for plot in plots if plot.name == name), None)


def plot_of(key: str) -> Plot:
    """A plot of one key alone, with the title and range of the one that shows it."""
    for plot in (plot for section in SECTIONS for plot in section.plots):
        for line in expanded(plot, [key]):
            title = plot.title if len(plot.lines) == 1 and line.label == key else f"{plot.title}: {line.label}"
            return Plot(f"key:{key}", title, (Line(key, key),), plot.y_range, rule=plot.rule)
    return Plot(f"key:{key}", key, (Line(key, key),))

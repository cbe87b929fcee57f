"""An ablation from a config and recorded rollouts: choose turns, go on from them with the policy, measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentrl.config import RunConfig, training_sections
from agentrl.errors import ConfigError
from agentrl.evaluation.ablation.cuts import Cut, cuts_of
from agentrl.evaluation.ablation.result import Ablation
from agentrl.evaluation.ablation.source import Recorded, read_recorded
from agentrl.evaluation.ablation.trials import choose, episodes, run_trials
from agentrl.evaluation.contender import Contender, PolicySource, with_contender
from agentrl.progress import Reporter, SilentReporter, Tally
from agentrl.types import Rollout


@dataclass(frozen=True)
class AblateOptions:
    """How much is run."""

    items: int = 20
    """At most so many items, one episode of each."""
    turns: int = 4
    """At most so many turns of an episode."""
    samples: int = 4
    """New episodes of each arm of a turn: the control, and one arm for each part that is removed."""
    seed: int | None = None
    """None is the config's."""
    replays: bool = False
    """Make the kept turns' calls again first. Always so where tools keep something for each episode."""


def ablate_policy(
    config: RunConfig,
    recorded: str,
    *,
    policy: str | PolicySource | None = None,
    options: AblateOptions | None = None,
    reporter: Reporter | None = None,
) -> Ablation:
    """Remove one part of one turn at a time, and go on with the policy.

    Args:
        recorded: see `source.read_recorded`.
        policy: who goes on, see `PolicySource.find`; None is who recorded.

    Raises:
        ConfigError: data, endpoints, rollouts or model do not fit, or there is nothing to remove.
        BaselineError, CheckpointError: the weights cannot be loaded.
    """
    options, reporter = options or AblateOptions(), reporter or SilentReporter()
    found = read_recorded(recorded)
    source = PolicySource.of(policy) if policy is not None else found.policy
    if source is None:
        raise ConfigError(f"{recorded}: does not say which weights sampled it, or they are not there; add --policy")

    async def work(contender: Contender) -> Ablation:
        if policy is None:
            found.check_digest(contender.policy)
        return await _ablate(contender, found, options, reporter)

    return with_contender(config, source, work, reporter=reporter)


async def _ablate(contender: Contender, found: Recorded, options: AblateOptions, reporter: Reporter) -> Ablation:
    config = contender.config
    seed = config.seed if options.seed is None else options.seed
    cuts = choose(found.rollouts, cutter(contender), items=options.items, turns=options.turns, seed=seed)
    if not cuts:
        raise ConfigError(
            f"{found.name}: none of its {len(found.rollouts)} episodes has a grade, and a turn with calls that "
            "another turn follows: there is nothing to remove"
        )
    total = episodes(cuts, options.samples)
    n_items = len({cut.rollout.task.id for cut in cuts})
    reporter.phase(
        f"{total} episodes: {len(cuts)} turn{'s' * (len(cuts) != 1)} of {n_items} item{'s' * (n_items != 1)}, "
        f"{options.samples} sample{'s' * (options.samples != 1)} with all parts and "
        "without each"
    )
    trials = await run_trials(
        contender.engine,
        cuts,
        samples=options.samples,
        seed=seed,
        replays=options.replays,
        on_done=Tally(reporter, total),
    )
    return Ablation(
        name=config.name,
        recorded=found.name,
        policy=contender.policy,
        samples=options.samples,
        seed=seed,
        replays=options.replays or contender.engine.keeps_state,
        pass_threshold=training_sections(config).grading.pass_threshold,
        trials=tuple(trials),
    )


def cutter(contender: Contender) -> Callable[[Rollout], list[Cut]]:
    """Finds the cuts of an episode in the tokens of this policy.

    Raises:
        ConfigError: the episode has other tokens.
    """
    engine, network = contender.engine, contender.network
    if network is None:
        raise ConfigError(
            "a model behind an API cannot go on from the middle of an episode; allowed: a policy whose tokens are known"
        )

    def cuts(rollout: Rollout) -> list[Cut]:
        if tuple(engine.prompt_ids(rollout.task)) != rollout.prompt_ids:
            raise ConfigError(
                f"rollout {rollout.id}: its prompt is not what this config writes for task {rollout.task.id!r}: the "
                "tokenizer, the chat template, the tools' descriptions or rollout.max_tool_calls differ"
            )
        return cuts_of(rollout, network.chat, engine.described(rollout.task))

    return cuts

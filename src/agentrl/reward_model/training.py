"""`agentrl reward-model train`: from episodes and comparisons to a folder that may grade, or is refused.

baseline -> one output -> trl's RewardTrainer -> rewards of the hold-out -> report, calibration, gate -> folder
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentrl.config import RewardModelRunConfig, RewardModelTrainingConfig
from agentrl.disk import write_text
from agentrl.errors import ConfigError
from agentrl.grading.rendering import RENDERING, Renderer
from agentrl.grading.reward_folder import CARD, Calibration, checked_digest, load_classifier, rewards_of
from agentrl.policy.folders import new_folder
from agentrl.progress import Reporter, SilentReporter
from agentrl.reward_model.data_file import Examples, read_examples
from agentrl.reward_model.gate import Report
from agentrl.reward_model.measure import GUIDANCE, measure
from agentrl.reward_model.page import REPORT, write_pages
from agentrl.reward_model.split import refuse_leakage
from agentrl.reward_model.start import load_classifier as load_start
from agentrl.runs.files import read_json, to_json
from agentrl.stages.course import Course, StageResult
from agentrl.stages.start import place_of, quietly

Rows = list[dict[str, Any]]
FOLLOWED = 128
"""Examples of the hold-out whose loss is followed while it trains; the report is about all of them."""


def run_reward_model(
    config: RewardModelRunConfig,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    allow_change: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> StageResult:
    """Train `reward_model.model`, measure it on the hold-out, and write `reward_model.output` with the report.

    The summary's `gate_failures` say why the model may not grade; it is written all the same.

    Args:
        run_dir: new or empty, `runs/NAME-TIME` by default; with `resume`, the run to go on with.
        allow_change: keys of the config, or `versions.train` and `versions.validation`, that a resumed run may change.

    Raises:
        ConfigError: a data file is missing, malformed, overlaps with the other, or has too many long episodes.
        BaselineError: the starting checkpoint cannot be loaded.
        CheckpointError: the run directory is in use, incomplete, or belongs to another config.
        TrainingStopped: the loss is not a number any more.
    """
    with quietly():
        section = config.reward_model
        reporter = reporter or SilentReporter()
        folder = place_of(config, run_dir, resume=resume)
        reporter.phase("loading checkpoint and data")
        train, validation = (read_examples(Path(path)) for path in (section.train, section.validation))
        refuse_leakage(list(train.episodes.values()), list(validation.episodes.values()))
        tokenizer, model = load_start(config)
        renderer = Renderer(tokenizer, section.rendering)
        facts: dict[str, Any] = {}
        rows = _rows(section, train, renderer, "train", facts)
        held_out = _rows(section, validation, renderer, "validation", facts)
        if len(rows) < GUIDANCE:
            reporter.message(
                f"{len(rows)} examples: in the study of arXiv:2210.10760 reward models of fewer than about {GUIDANCE} "
                "comparisons were near chance; look at the interval of the accuracy"
            )

        def make_trainer(arguments: dict[str, Any]) -> Any:
            from trl.trainer.reward_config import RewardConfig  # late: trl loads half of transformers
            from trl.trainer.reward_trainer import DataCollatorForPreference

            from agentrl.reward_model.trainers import ComparisonTrainer, ScoreCollator, ScoreTrainer
            from agentrl.stages.trainers import as_dataset, on_one_device

            is_pairs = section.objective == "pairs"
            centre = section.centering_coef if is_pairs and section.centering_coef else None
            collate = DataCollatorForPreference if is_pairs else ScoreCollator
            return (ComparisonTrainer if is_pairs else ScoreTrainer)(
                model=model,
                args=on_one_device(RewardConfig(**arguments, center_rewards_coefficient=centre)),
                data_collator=collate(pad_token_id=tokenizer.pad_token_id),
                train_dataset=as_dataset(rows),
                eval_dataset=as_dataset(held_out[:FOLLOWED]),
                processing_class=tokenizer,
            )

        course = Course(config, "reward_model", model, tokenizer, [_length(row) for row in rows], facts, make_trainer)
        result = course.run(folder, resume=resume, allow_change=allow_change, reporter=reporter)
        if result.stopped_by is not None:
            return result
        reporter.phase(f"scoring {len(validation.episodes)} episodes of the hold-out")
        report = _report(section, validation, n_train=len(rows))
        summary = {**result.summary, **_finish(section, report)}
        write_text(result.run_dir / "summary.json", to_json(summary, indent=2) + "\n")
        return replace(result, summary=summary)


def _rows(
    section: RewardModelTrainingConfig, examples: Examples, renderer: Renderer, name: str, facts: dict[str, Any]
) -> Rows:
    """What the trainer takes; an example with a longer episode is dropped whole and counted.

    Raises:
        ConfigError: there are none, too many are too long, or the chat template refuses one.
    """
    path = getattr(section, name)
    try:
        ids = {episode.id: renderer.ids(episode.transcript) for episode in examples.episodes.values()}
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if section.objective == "pairs":
        rows: Rows = [
            {"chosen_ids": ids[each.chosen], "rejected_ids": ids[each.rejected]} for each in examples.comparisons
        ]
        if section.margin:
            rows = [
                {**row, "margin": section.margin * each.gap}
                for row, each in zip(rows, examples.comparisons, strict=True)
            ]
    else:
        scored = [episode for episode in examples.episodes.values() if episode.score is not None]
        if wrong := next((episode for episode in scored if not 0 <= (episode.score or 0.0) <= 1), None):
            raise ConfigError(f"{path}: episode {wrong.id} has the score {wrong.score}; objective: scores wants 0 to 1")
        rows = [{"input_ids": ids[episode.id], "target": float(episode.score or 0.0)} for episode in scored]
    kept = [row for row in rows if _length(row) <= section.max_length]
    dropped = len(rows) - len(kept)
    if not rows:
        what = "no comparison" if section.objective == "pairs" else "no episode with a score"
        raise ConfigError(f"{path}: holds {what}; see what `agentrl reward-model pairs` says of the rollouts")
    if dropped > section.max_dropped_fraction * len(rows) or not kept:
        lengths = sorted(map(_length, rows))
        raise ConfigError(
            f"{path}: {dropped} of {len(rows)} examples ({dropped / len(rows):.1%}) are longer than "
            f"reward_model.max_length ({section.max_length} tokens; the longest has {lengths[-1]}, half have more than "
            f"{lengths[len(lengths) // 2]}); allowed: {section.max_dropped_fraction:.0%} "
            "(reward_model.max_dropped_fraction); raise max_length, or lower rendering.max_tool_chars"
        )
    prefix = "" if name == "train" else f"{name}_"
    facts |= {f"{prefix}examples": len(kept), f"{prefix}examples_dropped": dropped}
    facts[f"{prefix}longest_tokens"] = max(map(_length, kept))
    return kept


def _length(row: dict[str, Any]) -> int:
    """Tokens of an example's longest episode."""
    return max(len(value) for key, value in row.items() if key.endswith("_ids"))


def _report(section: RewardModelTrainingConfig, validation: Examples, *, n_train: int) -> Report:
    """What the written model says about the hold-out, read back from its folder as a grader reads it."""
    tokenizer, model = load_classifier(Path(section.output))
    renderer = Renderer(tokenizer, section.rendering)
    rewards = {}
    for episode in validation.episodes.values():
        ids = renderer.ids(episode.transcript)
        if len(ids) <= section.max_length:
            rewards[episode.id] = rewards_of(model, [ids])[0]
    return measure(validation, rewards, section.gate, objective=section.objective, n_train=n_train)


def _finish(section: RewardModelTrainingConfig, report: Report) -> dict[str, Any]:
    """Put report, calibration and digests beside the weights; what a summary tells of them."""
    output = Path(section.output)
    card = {
        "objective": section.objective,
        "rendering": {"version": RENDERING, "options": section.rendering.model_dump()},
        "max_length": section.max_length,
        "calibration": Calibration(**report["calibration"]).to_row(),
        "gate": report["gate"],
    }
    with new_folder(output) as draft:
        for path in output.iterdir():
            if path.is_file():
                shutil.copy2(path, draft)
        write_text(draft / CARD, to_json(card, indent=2) + "\n")
        write_pages(draft, report, name=output.name)
    judged = report["scores" if section.objective == "scores" else "comparisons"] or {}
    pairs = report["comparisons"]
    return {
        "digest": checked_digest(output),
        "comparisons": pairs["n"],
        **{key: pairs.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high", "length_matched_accuracy")},
        "ece": judged.get("scaled", {}).get("ece"),
        "temperature": judged.get("temperature"),
        "length_correlation": report["length"]["correlation"],
        "gate_failures": report["gate"]["failures"],
    }


def read_report(folder: Path) -> Report:
    """The report of a reward model's folder, whose files are what they were when it was written.

    Raises:
        ConfigError: there is none, or it was changed.
    """
    checked_digest(folder)
    found: Report | None = read_json(folder, REPORT)
    if found is None:
        raise ConfigError(f"{folder}: holds no {REPORT}; `agentrl reward-model train` writes it")
    return found

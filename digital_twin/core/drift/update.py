"""From a window and the model in service to a better one, or to the reason why there is none.

Identify on the first part of the window, prove on the rest, which identification has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from digital_twin.core.description import Description
from digital_twin.core.drift.estimate import names_of
from digital_twin.core.drift.holdout import Candidate, Comparison, Trials, compare, split
from digital_twin.core.drift.identification import Identified, identify
from digital_twin.core.drift.model_version import DataWindow, ModelVersion
from digital_twin.core.drift.residual_gp import fit_residual
from digital_twin.core.drift.update_config import HoldoutConfig, UpdateConfig
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import RobotConfig


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt. `version`: the new model, whether adopted or not; None: there is none."""

    adopt: bool
    words: str
    version: ModelVersion | None = None
    comparison: Comparison | None = None


def propose(
    w: Window, description: Description, config: RobotConfig, service: ModelVersion, suspicion: dict[str, str],
    settings: UpdateConfig, now_ns: int,
) -> Outcome:  # fmt: skip
    """A new model for a robot as it was brought, with `service` in service.

    Never raises for what data may hold: the outcome says in words what was wrong.
    """
    try:
        learn, proof = split(w, settings.holdout.share)
        d, c = service.apply(description, config)
        before = candidate(service, description, config, settings)
        found = identify(learn, d, c, service.changes, before.delay, suspicion)
        if not found.excitation.told:
            refused = names_of(list(found.excitation.refused))
            return Outcome(False, f"the data cannot tell any parameter: too little motion (asked for {refused})")
        if found.changes == service.changes:
            return Outcome(False, "nothing has changed by more than chance explains: the model in service stays")
        version = _version(w, found, service, suspicion, now_ns)
        return _prove(proof, version, found, before, description, config, settings)
    except (TwinError, np.linalg.LinAlgError) as e:
        return Outcome(False, f"no new model: {e}; the model in service stays")


def candidate(v: ModelVersion, description: Description, config: RobotConfig, settings: UpdateConfig) -> Candidate:
    """A version as forecasts need it. Raises ConfigError."""
    delay = v.changes.delay if v.changes.delay is not None else settings.command_delay
    return Candidate(*v.apply(description, config), delay, v.residual)


def _version(
    w: Window, found: Identified, service: ModelVersion, suspicion: dict[str, str], now_ns: int
) -> ModelVersion:
    reason = ", ".join(f"{k} {v}".strip() for k, v in suspicion.items()) or "calibration"
    errors = {name: float(e.error) for name, e in found.estimates.items() if e.told}
    data = DataWindow(int(w.stamps_ns[0]), int(w.stamps_ns[-1]), len(w), found.feeds_speed)
    return replace(
        service, parent=service.hash, created_ns=now_ns, reason=reason, changes=found.changes, data=data, errors=errors,
        scores={},
    )  # fmt: skip


def _prove(
    proof: Window, version: ModelVersion, found: Identified, before: Candidate, description: Description,
    config: RobotConfig, settings: UpdateConfig,
) -> Outcome:  # fmt: skip
    h = settings.holdout
    trials = _trials(proof, h, before, feeds_speed=found.feeds_speed)
    old = trials.best_errors(before)
    result = compare(old, trials.best_errors(candidate(version, description, config, settings)), h)
    words = "; ".join(found.notes)
    if settings.residual and version.reason == "calibration":
        learned = replace(version, residual=fit_residual(*found.leftover, _names(before)))
        if learned.residual.joints:
            again = compare(old, trials.best_errors(candidate(learned, description, config, settings)), h)
            if again.ratio < result.ratio:
                version, result = learned, again
                words += f"; learned what no parameter explains of {names_of(list(learned.residual.joints))}"
    version = replace(version, scores=_scores(result))
    adopt = result.better(h.margin)
    verdict = "better" if adopt else f"not better by {100 * h.margin:g} % with confidence: the model in service stays"
    return Outcome(adopt, f"{words}; {result}: {verdict}", version, result)


def _names(c: Candidate) -> list[str]:
    return RobotModel(c.description, c.config.base_frame).joint_names


def _trials(w: Window, h: HoldoutConfig, c: Candidate, *, feeds_speed: bool) -> Trials:
    weight = 9.81 * RobotModel(c.description, c.config.base_frame).mass
    return Trials(w, h, feeds_speed=feeds_speed, feet=len(c.config.feet), weight=weight)


def _scores(c: Comparison) -> dict[str, float]:
    out = {"ratio": c.ratio, "low": c.low, "high": c.high, "forecasts": float(c.forecasts), "horizon": c.horizon}
    for when, errors in (("before", c.before), ("after", c.after)):
        out |= {f"{group} {when}": value for group, value in errors.items()}
    return out


def review(
    w: Window, description: Description, config: RobotConfig, service: ModelVersion, parent: ModelVersion,
    settings: UpdateConfig,
) -> Outcome:  # fmt: skip
    """Whether the model in service still foretells a window at least as well as its parent; `adopt`: go back."""
    try:
        old, now = (candidate(v, description, config, settings) for v in (parent, service))
        trials = _trials(w, settings.holdout, now, feeds_speed=service.data.feeds_speed)
        result = compare(trials.best_errors(old), trials.best_errors(now), settings.holdout)
    except (TwinError, np.linalg.LinAlgError) as e:
        return Outcome(False, f"the model in service could not be reviewed: {e}")
    if result.worse(settings.holdout.margin):
        return Outcome(True, f"{result}: worse than what was before", parent, result)
    return Outcome(False, f"{result}: it stays", None, result)

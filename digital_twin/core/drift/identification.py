"""A robot's parameters from a window: servos, bodies, friction, rotors, what hangs at a frame.

Servos come first (core/drift/servo.py). Then the rows of inverse dynamics (core/drift/regressor.py), with the measured
torques and sole wrenches on their other side, are linear in φ of the bodies and in friction and rotors. Bodies are sought
in log-Cholesky coordinates about the model in service, so that every step is a body that can be: Gauss and Newton, with
a prior that leaves at the model in service what the data do not tell. Rows are weighted by the noise that they turn out
to have, and samples that say the same are counted once.

A suspicion frees what it names and lets everything else move only as far as the model in service may be wrong; of that
nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.description import Description
from digital_twin.core.drift.estimate import Estimate, Excitation, label, names_of
from digital_twin.core.drift.parameters import BodyChange, Changes, Payload, body_change, payload_on_body
from digital_twin.core.drift.problem import AWAY, Problem
from digital_twin.core.drift.regressor import Regressor
from digital_twin.core.drift.servo import identify_servos
from digital_twin.core.drift.signals import condition
from digital_twin.core.drift.window import Window
from digital_twin.core.errors import TwinError, unknown
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig

SUSPICIONS = ("payload", "friction", "motor", "encoder", "delay", "armature")
GONE = 0.02  # [kg]; a payload lighter than this is none


@dataclass(frozen=True)
class Identified:
    """What came out.

    changes: relative to URDF and robot config, those in service and the new ones. estimates: by name. excitation: what
    the data told. feeds_speed: commands come with speeds. notes: in words.
    """

    changes: Changes
    estimates: dict[str, Estimate]
    excitation: Excitation
    feeds_speed: bool
    leftover: tuple[Array, Array, Array]
    notes: tuple[str, ...] = ()


def identify(
    w: Window, description: Description, config: RobotConfig, changes: Changes, delay: float,
    suspicion: dict[str, str] | None = None,
) -> Identified:  # fmt: skip
    """Identify.

    Args:
        w: the window.
        description, config: of the model in service, with its changes applied.
        changes: those, relative to the robot as it was brought.
        delay: of commands that is assumed [s].
        suspicion: what is thought to have changed, kind to frame or joint, like {"payload": "l_gripper"}; empty: all.

    Raises:
        TwinError: too little data, an unknown suspect, no convergence; one line.
    """
    model = RobotModel(description, config.base_frame)
    joints = Joints(config, model)
    suspicion = check_suspicion(suspicion or {}, model)
    for what, values in (("torques", w.effort), ("sole forces", w.wrenches)):
        if values[1:].size and np.isfinite(values).all() and (values[1:] == values[:-1]).all():
            raise TwinError(f"the {what} do not change at all, as no sensor reads: are they frozen?")
    servos = identify_servos(w, model, joints, delay)
    zero = np.array(
        [
            _value(servos.estimates, "zero error", n, z)
            for n, z in zip(model.joint_names, joints.zero_error, strict=True)
        ]
    )
    signals = condition(w, model, zero, config.imus[0].frame if config.imus else "")
    hung = changes.payloads.get(suspicion.get("payload", ""))
    problem = Problem(Regressor(model, [f.frame for f in config.feet]), joints, suspicion, hung)
    rows = problem.rows(signals)
    problem.fit(signals.qd, rows)
    estimates, told = problem.summary()
    if not suspicion:
        # What stays as it was must not leave its share of the weight to nobody: the rest is fitted again beside it.
        problem.hold(told.told)
        problem.fit(signals.qd, rows)
        again, _ = problem.summary()
        estimates = {k: replace(e, value=again[k].value) if e.told else e for k, e in estimates.items()}
    estimates |= servos.estimates
    told = told.joined(servos.excitation)
    new = _adopt(problem, changes, estimates, suspicion, model, joints)
    return Identified(
        new,
        estimates,
        told,
        servos.feeds_speed,
        (signals.q, signals.qd, problem.leftover(rows)),
        _notes(told, estimates),
    )


def check_suspicion(suspicion: dict[str, str], model: RobotModel) -> dict[str, str]:
    """Raises TwinError when a kind, frame or joint is not known."""
    for kind, name in suspicion.items():
        if kind not in SUSPICIONS:
            raise TwinError(unknown("suspicion", kind, SUSPICIONS))
        known = model.frames if kind == "payload" else model.joint_names
        if kind != "delay" and name not in known:
            raise TwinError(unknown("frame" if kind == "payload" else "joint", name, known))
    return suspicion


def _value(estimates: dict[str, Estimate], kind: str, name: str, default: float) -> float:
    e = estimates.get(label(kind, name))
    return e.value if e is not None and e.told else float(default)


# What is taken over


def _adopt(
    problem: Problem, changes: Changes, estimates: dict[str, Estimate], suspicion: dict[str, str], model: RobotModel,
    joints: Joints,
) -> Changes:  # fmt: skip
    if "payload" in suspicion:
        changes = _hang(problem, changes, suspicion["payload"], estimates)
    if not suspicion:
        loaded = {model.mj.body(payload_on_body(model, f, p)[0]).name for f, p in changes.payloads.items()}
        changes = replace(changes, payloads={}, bodies=changes.bodies | _bodies(problem, estimates, loaded))
    wanted = {
        "friction": ("damping", "friction"), "armature": ("armature",), "motor": ("strength",), "encoder": ("zero error",),
    }  # fmt: skip
    for name in model.joint_names:
        kinds = [k for s, ks in wanted.items() if not suspicion or suspicion.get(s) == name for k in ks]
        values = {}
        for kind in kinds:
            e = estimates.get(label(kind, name))
            if e is not None and e.told:
                known = (changes.joint(name).strength or 1.0) if kind == "strength" else 1.0
                values[kind.replace(" ", "_")] = float(e.value * known)
        if values:
            changes = changes.with_joint(name, **values)
    delay = estimates.get("command delay")
    if delay is not None and (not suspicion or "delay" in suspicion) and delay.value != delay.before:
        changes = replace(changes, delay=float(delay.value))
    return changes


def _bodies(problem: Problem, estimates: dict[str, Estimate], loaded: set[str]) -> dict[str, BodyChange]:
    """Bodies of which the data told anything, and those that bore a payload, which is now part of them."""
    out: dict[str, BodyChange] = {}
    for i, body in enumerate(problem.regressor.bodies):
        name = problem.regressor.model.body(body).name
        if name in loaded or any(
            e.told
            for n, e in estimates.items()
            if n.endswith(f" of {name}") and n.startswith(("mass", "com", "inertia"))
        ):
            out[name] = body_change(problem.body(i))
    return out


def _hang(problem: Problem, changes: Changes, frame: str, estimates: dict[str, Estimate]) -> Changes:
    """The payload that was suspected, in place of what hung there."""
    mass, moment = problem.payload()
    error = estimates[label("payload", frame)].error
    others = {k: v for k, v in changes.payloads.items() if k != frame}
    if mass < -3.0 * error - GONE:
        raise TwinError(f"'{frame}' is {-mass:.2g} kg lighter than without a payload, which none explains: recalibrate")
    if mass < max(3.0 * error, GONE):
        return replace(changes, payloads=others)
    x, y, z = np.clip(moment / mass, -4 * AWAY, 4 * AWAY).tolist()
    return replace(changes, payloads={**others, frame: Payload(mass, (x, y, z))})


def _notes(told: Excitation, estimates: dict[str, Estimate]) -> tuple[str, ...]:
    moved = [f"{name} {e.before:.3g} → {e}" for name, e in estimates.items() if e.moved]
    refused = list(told.refused)
    notes = [f"changed: {names_of(moved)}"] if moved else ["nothing has changed by more than chance explains"]
    if refused:
        notes.append(f"cannot be told by these data, and stay: {names_of(refused)}")
    return tuple(notes)

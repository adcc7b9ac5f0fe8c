"""Does the robot still behave like its model? Feed it what the robot says; it says what has changed.

It learns the robot's ordinary differences from a minute of healthy motion, then watches. Stamps and times of arrival are
arguments: no clock is read here. Long work (learning, attribution) is done a little with each sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from digital_twin.core.arrays import Array, Mask, or_zero
from digital_twin.core.base_state import BaseState
from digital_twin.core.drift import pose_check, scan_check
from digital_twin.core.drift.attribution import Attribution, Evidence
from digital_twin.core.drift.channels import LEAP, Channels, shares
from digital_twin.core.drift.config import DriftConfig
from digital_twin.core.drift.hypotheses import Hypothesis
from digital_twin.core.drift.identity import Differences
from digital_twin.core.drift.lookahead import Lookahead
from digital_twin.core.drift.other_model import Reference, Relearning, expect, reference
from digital_twin.core.drift.pose_check import PoseCheck
from digital_twin.core.drift.residuals import FEATURES, Residuals
from digital_twin.core.drift.sample import SETTLING, Block, Sampler
from digital_twin.core.drift.scan_check import ScanCheck
from digital_twin.core.drift.stream_watch import StreamFault, StreamWatch
from digital_twin.core.forecaster import Forecaster
from digital_twin.core.innovations import AXES
from digital_twin.core.model import RobotModel
from digital_twin.core.robot_config import Joints, RobotConfig
from digital_twin.core.world import World

NS = 1_000_000_000
PIECE = 10  # blocks whose residuals are computed anew in one go
CAUTION = 3.0  # with channels that the synchronizer and forecasts have a part in: their errors wander
# [rad] by which forecasts of 10 and of 100 ms may come to be off as feet creep under the robot's weight, and as the attitude
# wanders by milliradians, of which a part is taken for a slope.
WANDER = 3e-4, 1e-3
SHOCK = 400_000_000  # [ns]
FEW = 3  # joints of which a model says something new
BEHIND = 0.25  # [s] of backlog, beyond which blocks are let go until it has caught up
MARGIN = (0.1, 1.5)  # [rad] beyond, and times as fast as, what was seen while calibrating


@dataclass(frozen=True)
class NextModel:
    """A model that is ready to be used."""

    model: RobotModel
    joints: Joints
    residuals: Residuals
    forecaster: Forecaster | None


class Monitor:
    """See the module.

    Attributes:
        phase: "waiting", "calibrating", "learning" or "watching".
        banks: channels by name. hypotheses: of the last attribution, the most likely first.
        since_ns: stamp since when there is an alarm; None while there is none.
    """

    def __init__(
        self, model: RobotModel, robot: RobotConfig, joints: Joints, config: DriftConfig, world: World | None = None
    ) -> None:
        self.config, self.robot = config, robot
        self.sampler = Sampler(model, robot, joints, config.rate, config.command_delay)
        self._joints = joints
        self.lookahead = Lookahead(model, robot, joints, config.forecast_rate) if config.forecast_rate > 0.0 else None
        self._pose = PoseCheck()
        self._scan = ScanCheck(model, robot.scan_frame, world) if world is not None and robot.scan_frame else None
        feet = [f"foot/{f.name}/{axis}" for f in robot.feet for axis in AXES]
        self.streams = StreamWatch(config.false_alarm * 36000.0 * 10, config.patience)
        self._feet_names = [f.name for f in robot.feet]
        self._set_model(model)
        keep = round((config.evidence + 1.0) * config.rate)
        r = self.residuals
        self.banks: dict[str, Channels] = {}
        self.banks["body"] = Channels(
            "body", r.names, r.units, FEATURES, keep, r.sizes, r.usual, slack=r.slack, clip=np.inf,
            jumps=r.parts["encoder"],
        )  # fmt: skip
        self.banks["feet"] = Channels("feet", feet, ["σ"] * len(feet), caution=CAUTION)
        if self.lookahead is not None:
            names, units = self.lookahead.names, self.lookahead.units
            wander = np.repeat(WANDER, len(names) // len(WANDER))
            self.banks["forecast"] = Channels("forecast", names, units, caution=CAUTION, slack=wander)
        self.banks["pose"] = Channels("pose", pose_check.NAMES, pose_check.UNITS, caution=2.0 * CAUTION)  # feet twist
        if self._scan is not None:
            self.banks["scan"] = Channels("scan", scan_check.NAMES, scan_check.UNITS, caution=CAUTION)
        self._jumpy = np.zeros(len(r.names), dtype=bool)  # channels that know a reading's jump for what it is
        self._jumpy[r.parts["encoder"]] = self._jumpy[r.parts["tracking"]] = True
        self._attribution = Attribution(r, self.banks["body"].bank, self._feet_names, keep)
        self.phase = "waiting"
        self._blocks: deque[Block] = deque(maxlen=round(config.calibration * config.rate) + 10)
        self._recent: deque[Block] = deque(maxlen=keep)
        self._work: Iterator[None] | None = None
        self._start_ns = 0
        self._range = (np.zeros(model.n), np.zeros(model.n), np.zeros(model.n))
        self._learned: Reference | None = None
        self._relearning = Relearning(self.banks, config.calibration, config.false_alarm)
        self._last_q: Array | None = None
        self.hypotheses: list[Hypothesis] = []
        self.since_ns: int | None = None
        self.attributed_ns: int | None = None
        self._next_ns = 0
        self._leaps: dict[int, tuple[int, float, float]] = {}
        self.outside = self.let_go = 0
        self.now_ns = 0

    def _set_model(self, model: RobotModel) -> None:
        self.model = model
        self.residuals = Residuals(model, self.robot, self._joints)
        self._differences = Differences(self.residuals.dynamics)

    def prepare(self, model: RobotModel, robot: RobotConfig, joints: Joints) -> NextModel:
        """Another model of the same robot, made ready; takes a while, and may be done in a thread."""
        forecaster = self.lookahead.make(model, robot, joints) if self.lookahead is not None else None
        return NextModel(model, joints, Residuals(model, robot, joints), forecaster)

    def use(self, new: NextModel) -> None:
        """A model is in service. Where it says something new of a joint, that replaces what was learned of it; what was
        learned of all else stays. When more than a few things are new, all is learned anew."""
        old, old_joints = self.residuals, self._joints
        drives = new.joints.kp != old_joints.kp
        zeros = new.joints.zero_error != old_joints.zero_error
        now, then = new.residuals.dynamics.described, old.dynamics.described
        passive = (now.friction != then.friction) | (now.damping != then.damping) | (now.armature != then.armature)
        new.residuals.inherit(old, drives | zeros, passive)
        self.model, self._joints, self.residuals = new.model, new.joints, new.residuals
        self._differences = Differences(self.residuals.dynamics)
        self._attribution.use(self.residuals)
        if self.lookahead is not None and new.forecaster is not None:
            self.lookahead.use(new.forecaster)
        if int(drives.sum() + zeros.sum() + passive.sum()) > FEW or self.phase != "watching":
            self.recalibrate()
            return
        nominal, parts = self.banks["body"].bank.nominal, self.residuals.parts
        if nominal is not None:
            nominal.mean[parts["tracking"]][drives, 1] = 0.0
            nominal.mean[parts["tracking"]][drives | zeros, 0] = 0.0
            nominal.mean[parts["torque"]][passive, 1] = 0.0
        if self._learned is not None:
            expect(self._learned, self.residuals, self.banks["body"])
        self.banks["body"].bank.reset()
        self.reset()
        # Whether a load is known to a millimetre shows in forecasts, and where zeros are in the feet: other residuals.
        self._relearning.begin(self.now_ns, ["forecast", "feet"] if zeros.any() else ["forecast"])

    # In

    def heard(self, stream: str, stamp_ns: int, arrival_ns: int, content: int | None = None) -> None:
        """A message of a stream arrived."""
        self.streams.heard(stream, stamp_ns, arrival_ns, content)

    def joints(self, stamp_ns: int, q: Array, qd: Array | None, effort: Array | None) -> None:
        """Joint readings (n,), NaN where missing."""
        self.sampler.joints(stamp_ns, q, qd, effort)
        self._last_q = q
        if self.lookahead is not None:
            residual = self.lookahead.outcome(stamp_ns, q)
            if residual is not None:
                self._take("forecast", stamp_ns, residual)

    def imu(self, stamp_ns: int, gyro: Array, accel: Array) -> None:
        """A reading of the first IMU, along its frame's axes [rad/s], [m/s²] (3,)."""
        self.sampler.imu(stamp_ns, gyro, accel)

    def wrench(self, stamp_ns: int, foot: int, wrench: Array) -> None:
        """Force and torque on a sole, in its frame (6,)."""
        self.sampler.wrench(stamp_ns, foot, wrench)

    def command(self, stamp_ns: int, position: Array, velocity: Array | None, effort: Array | None) -> None:
        """A command to the servos (n,), NaN for joints that it does not name."""
        self.sampler.command.add(stamp_ns, position, velocity, effort)
        if self.lookahead is not None:
            self.lookahead.plan.command(stamp_ns, position, velocity, effort)

    def base(self, state: BaseState) -> None:
        """The base in odom, as the synchronizer has it."""
        self.sampler.base(state)
        self._pose.base(state)

    def innovations(self, stamp_ns: int, values: Array) -> None:
        """Whitened innovations of a joint measurement: of the feet first (6 f, …). Completes the sample."""
        feet = values[: 6 * len(self._feet_names)]
        if len(feet) and np.isfinite(feet).any():
            self._take("feet", stamp_ns, feet)
        for block in self.sampler.sample(stamp_ns):
            self.now_ns = block.stamp_ns
            self._block(block)

    def pose(self, stamp_ns: int, position: Array, rotation: Array, covariance: Array) -> None:
        """An external pose of the base in the map."""
        residual = self._pose.residual(stamp_ns, position, rotation)
        if residual is not None:
            self._take("pose", stamp_ns, residual)

    def scan(self, stamp_ns: int, angles: Array, ranges: Array, reach: tuple[float, float]) -> None:
        """A planar scan: ray angles [rad] and ranges [m] (k,), least and greatest range."""
        where = self._pose.in_map(stamp_ns)
        if self._scan is not None and where is not None and self._last_q is not None:
            self._take("scan", stamp_ns, self._scan.residual(*where, self._last_q, angles, ranges, reach))

    def _take(self, bank: str, stamp_ns: int, residual: Array) -> None:
        """A sample of a bank without features."""
        if self.phase == "calibrating" or bank in self._relearning:
            self.banks[bank].learn(stamp_ns, residual)
        elif self.phase == "watching":
            self.banks[bank].add(stamp_ns, residual)

    def _block(self, block: Block) -> None:
        if self.streams.behind(BEHIND):
            self.let_go += 1
            self.sampler.unsettle(block.stamp_ns)
            return
        ready = block.settled and self.sampler.command.complete(block.stamp_ns) and bool(np.isfinite(block.q).all())
        if self.lookahead is not None and ready and self.sampler.newest_base is not None:
            self.lookahead.begin(block.stamp_ns, *self.sampler.newest_state, self.sampler.newest_base)
        if self.phase == "waiting":
            self.phase, self._start_ns = "calibrating", block.stamp_ns
        if self.phase == "calibrating":
            self._calibrate(block)
        elif self.phase == "learning":
            self.step()
        else:
            self._watch(block)

    # Learning

    def _calibrate(self, block: Block) -> None:
        if self._blocks and block.stamp_ns < self._blocks[-1].stamp_ns:
            self.recalibrate()
            return
        if block.settled:
            self._blocks.append(block)
            self._differences.add(block)
        if (block.stamp_ns - self._start_ns) / NS >= self.config.calibration:
            self.phase, self._work = "learning", self._learn()

    def _learn(self) -> Iterator[None]:
        """Everything that is to be learned, a little at a time."""
        self._differences.apply()
        yield
        body, blocks = self.banks["body"], list(self._blocks)
        body.bank.least[self.residuals.parts["encoder"]] = self.sampler.encoder_step
        for i in range(0, len(blocks), PIECE):
            for block in blocks[i : i + PIECE]:
                body.bank.learn(block.stamp_ns, *self.residuals.compute(block))
            yield
        asked = np.array([np.where(np.isnan(b.command), b.q, b.command) for b in blocks])
        fast = np.abs(np.array([b.command_rate for b in blocks]))
        self._range = (asked.min(axis=0), asked.max(axis=0), or_zero(fast).max(axis=0))
        for bank in self.banks.values():
            yield from bank.bank.fit()
        self._relearning.shares = shares(self.banks)
        for name, bank in self.banks.items():
            yield from bank.watch(self.config.false_alarm, self._relearning.shares[name])
        if body.bank.nominal is not None:
            self._learned = reference(self.residuals, body.bank.nominal, blocks)
        self.streams.settle()
        self._blocks.clear()
        self.phase, self._work = "watching", None

    def recalibrate(self) -> None:
        """Learn anew from now on."""
        self.phase, self._work = "waiting", None
        self._blocks.clear()
        self._relearning.clear()
        for bank in self.banks.values():
            bank.bank.forget()
        self._differences = Differences(self.residuals.dynamics)
        self.streams.calibrating = True
        self.reset()

    def reset(self) -> None:
        """Forget alarms, not what was learned."""
        for bank in self.banks.values():
            bank.reset()
        self._recent.clear()
        self.streams.reset()
        self.hypotheses, self.since_ns, self.attributed_ns = [], None, None
        if self.phase == "watching":
            self._work = None

    # Watching

    def _watch(self, block: Block) -> None:
        self._recent.append(block)
        inside = self._inside(block)
        self.outside += not inside
        self._note_leaps(block)
        # A reading that jumped is no motion, though speeds and accelerations look like it for a moment.
        calm = all(block.stamp_ns - leap[0] > SETTLING for leap in self._leaps.values())
        judged = (calm | self._jumpy) & (inside and block.settled)
        row = self.residuals.compute(block)
        self.banks["body"].add(block.stamp_ns, *row, judged=judged, forgiven=self.residuals.forgiven)
        alarm = any(b.alarm.any() for b in self.banks.values())
        self._relearning.go_on(block.stamp_ns, alarm)
        if not alarm:
            self.since_ns = self._work = None
            self.hypotheses = []
            return
        if self.since_ns is None:
            self.since_ns, self._next_ns = block.stamp_ns, block.stamp_ns + NS // 10
        self._attribution.note(block)
        if self._work is None and block.stamp_ns >= self._next_ns:
            self._next_ns = block.stamp_ns + round(self.config.attribute_every * NS)
            self._work = self._attribute(block.stamp_ns)
        self.step()

    def _note_leaps(self, block: Block) -> None:
        """Readings of joints that jumped, within the last half second or since there is an alarm."""
        sigma = self.banks["body"].bank.spread(self.residuals.parts["encoder"])
        scores = or_zero(block.jump / sigma)
        for i in np.flatnonzero(np.abs(scores) > LEAP):
            if abs(scores[i]) > abs(self._leaps.get(int(i), (0, 0.0, 0.0))[1]):
                self._leaps[int(i)] = block.stamp_ns, float(scores[i]), float(block.jump[i])
        if self.since_ns is None:
            old = block.stamp_ns - NS // 2
            self._leaps = {i: leap for i, leap in self._leaps.items() if leap[0] > old}

    def step(self) -> None:
        """Go on with what takes longer than a block: learning, attribution. Blocks do so by themselves."""
        if self._work is not None:
            try:
                next(self._work)
            except StopIteration:
                if self.phase == "watching":
                    self._work = None

    def _inside(self, block: Block) -> bool:
        """Whether what is asked for is like what was asked for while calibrating."""
        low, high, fast = self._range
        asked = np.where(np.isnan(block.command), block.q, block.command)
        inside = (asked > low - MARGIN[0]) & (asked < high + MARGIN[0])
        slow = np.abs(or_zero(block.command_rate)) <= MARGIN[1] * fast + 0.05
        return bool(np.all(inside & slow))

    def _attribute(self, now_ns: int) -> Iterator[None]:
        evidence = self._evidence(now_ns)
        if evidence is None:
            return
        found: list[Hypothesis] = []
        yield
        yield from self._attribution.rank(evidence, found)
        self.hypotheses, self.attributed_ns = found, now_ns

    def _evidence(self, now_ns: int) -> Evidence | None:
        """What happened since the change seems to have begun."""
        body, feet = self.banks["body"], self.banks["feet"]
        begin = self._onset(now_ns)
        if now_ns - begin > NS:
            begin += SHOCK  # how the robot gives way at first is in no signature
        blocks = [b for b in self._recent if b.stamp_ns >= begin]
        scores, sigma = body.since(begin)
        count = min(len(blocks), len(scores))
        if count < 3:
            return None
        return Evidence(
            blocks[-count:], scores[-count:], sigma[-count:], body.alarm.copy(), feet.since(begin)[0], feet.alarm.copy(),
            {i: leap[1:] for i, leap in self._leaps.items()},
        )  # fmt: skip

    def _onset(self, now_ns: int) -> int:
        """Stamp from which on there is evidence: a little after the first alarming channel left zero."""
        earliest = now_ns
        for bank in self.banks.values():
            d = bank.detectors
            if d is not None and d.alarm.any() and bank.bank.nominal is not None:
                steps = int(d.onset()[d.alarm].max())
                earliest = min(earliest, now_ns - round(steps / max(bank.bank.nominal.rate, 1.0) * NS))
        return max(earliest, now_ns - round(self.config.evidence * NS))

    # Out

    def stream_faults(self, now_ns: int) -> list[StreamFault]:
        """What is wrong with streams at a time of arrival."""
        return self.streams.faults(now_ns)

    def alarms(self) -> dict[str, Mask]:
        """Which channels alarm, by bank."""
        return {name: bank.alarm for name, bank in self.banks.items()}

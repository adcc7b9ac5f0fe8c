"""The loop that keeps the model right: a change that is explained renews it, what has proved better goes into service.

Whatever is in service reaches the monitor by twin/model, like every other node: a replay then takes it from the recording,
at the same event, and needs no keeper.
"""

from __future__ import annotations

from typing import Any

from std_msgs.msg import String
from std_srvs.srv import Trigger

from digital_twin.core.drift.monitor import Monitor, NextModel
from digital_twin.robots import Robot
from digital_twin.ros.model_follower import ModelFollower
from digital_twin.ros.model_keeper import ModelKeeper
from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL, LATCHED

NS = 1_000_000_000
RENEWABLE = ("payload", "friction", "motor", "encoder", "delay")  # kinds that a model can follow
PATIENCE = 4 * NS  # [ns] between two attempts
BEFORE = NS // 2  # [ns] by which a change is older than its first explanation
LONGEST = 60.0  # [s] of the past that a model is renewed from


class ModelLoop:
    """Between a monitor and a keeper. `look` goes on with it, and takes microseconds unless a model comes into service."""

    def __init__(self, node: TwinNode[Any], robot: Robot, monitor: Monitor, offline: bool) -> None:
        """`offline`: in a replay there is nothing to keep."""
        self._node, self._monitor, s = node, monitor, node.settings
        self._settings = s
        self.keeper = None if offline else ModelKeeper(robot, s.models)
        self._models = ModelFollower(node, robot, self._make, self._use)
        self._suspect: tuple[str, str] = "", ""
        self._suspected_ns = self._tried_ns = self._used_ns = 0
        self._kind_since_ns = 0  # when what explains the change became of this kind, by the monitor's stamps
        self._asked_since: int | None = None  # when the alarm began for which the model is being renewed
        self._reviewed = True
        self._gap_ns = 0
        self._said_gap = ""
        self._announce = node.talk(String, "twin/model", LATCHED)
        self._tell_gap = node.talk(String, "twin/reality_gap", INTERNAL)
        for name, answer in (("approve", self._approve), ("report_gap", self._report_gap)):
            node.serve(Trigger, f"~/{name}", answer)

    # What is in service

    @property
    def service(self) -> str:
        """What the model in service is called; "" before one was announced."""
        return self._models.service

    def _make(self, robot: Robot) -> NextModel:
        return self._monitor.prepare(robot.model, robot.config, robot.joints)

    def _use(self, new: NextModel) -> None:
        self._monitor.use(new)
        self._used_ns, self._reviewed = self._node.now_ns(), False
        self._suspect = "", ""

    # Renewal

    def look(self, now_ns: int) -> None:
        """Go on: with models that come into service, with what is under way, with suspicions."""
        self._models.look(now_ns)
        if self.keeper is None:
            return
        for event in self.keeper.poll(now_ns):
            self._node.say(event.level, event.text)
        said = self.keeper.announcement()
        if said is not None:
            self._announce(String(data=said))
        if self.keeper.gap != self._said_gap:
            self._said_gap = self.keeper.gap
            self._tell_gap(String(data=self._said_gap))
        self._suspicion(now_ns)
        if self._models.busy:
            return
        if self.keeper.busy:
            self._overtake(now_ns)
        else:
            self._renew(now_ns)
            self._review(now_ns)
            self._gap(now_ns)

    def _suspicion(self, now_ns: int) -> None:
        """What has explained the change without a break, and since when."""
        found = self._monitor.hypotheses
        h = found[0] if found and found[0].kind in RENEWABLE else None
        suspect = ("", "") if h is None else (h.kind, h.target)
        if suspect[0] != self._suspect[0]:
            self._kind_since_ns = self._monitor.now_ns - BEFORE
        if suspect != self._suspect:
            self._suspect, self._suspected_ns = suspect, now_ns

    def _due(self, now_ns: int) -> float | None:
        """From how much of the past [s] the model is to be renewed now; None: it is not."""
        since, after = self._monitor.since_ns, self._settings.renew_after
        if since is None or not self._suspect[0] or now_ns - self._tried_ns < PATIENCE:
            return None
        if now_ns - self._used_ns < after * NS:  # an alarm goes on for a while after its cause
            return None
        # An alarm may be older than this change: what was before it is of another robot.
        age = (self._monitor.now_ns - max(since, self._kind_since_ns)) / NS
        return min(age, LONGEST) if age >= after and now_ns - self._suspected_ns >= NS // 2 else None

    def _renew(self, now_ns: int) -> None:
        if self.keeper is not None and self._monitor.phase == "watching":
            self.keeper.warm_up()
        seconds = self._due(now_ns)
        window = None if seconds is None else self._monitor.sampler.past.window(seconds)
        if window is not None and self.keeper is not None:
            self._tried_ns, self._asked_since = now_ns, self._monitor.since_ns
            self.keeper.ask(window, dict([self._suspect]), now_ns)

    def _overtake(self, now_ns: int) -> None:
        """What is under way is of the robot as it was before it changed; what somebody asked for in words is left."""
        if self.keeper is None or self._due(now_ns) is None:
            return
        what = self.keeper.under_way
        if what in ("review", "gap") or (what == "identification" and self._asked_since != self._monitor.since_ns):
            self.keeper.give_up("the robot has changed since")
            if what == "review":  # it is due again, as long after this as after the model came into service
                self._reviewed, self._used_ns = False, now_ns - round(self._settings.renew_after * NS)

    def _review(self, now_ns: int) -> None:
        after = round(self._settings.review_after * NS)
        if self.keeper is None or self._reviewed or now_ns - self._used_ns < after:
            return
        window = self._monitor.sampler.past.window(self._settings.review_after)
        self._reviewed = window is None or self.keeper.review(window, now_ns) or self.keeper.parent is None

    def _gap(self, now_ns: int) -> None:
        every = round(self._settings.gap_every * NS)
        if every and now_ns - self._gap_ns >= every:
            self._gap_ns = now_ns
            window = self._monitor.sampler.past.window(LONGEST)
            if window is not None and self.keeper is not None:
                self.keeper.reality_gap(window, now_ns)

    def calibrate(self, now_ns: int) -> str:
        """Renew the whole model from the last minute; returns in words what is done."""
        window = self._monitor.sampler.past.window(LONGEST)
        if self.keeper is None or window is None:
            return "there are no data to renew the model from"
        if not self.keeper.ask(window, {}, now_ns):
            return "the model is being renewed already"
        return f"the model is being renewed from the last {window.duration:.0f} s"

    # Services

    def _approve(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = (False, "a replay") if self.keeper is None else self.keeper.approve()
        return response

    def _report_gap(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        window = self._monitor.sampler.past.window(LONGEST)
        if self.keeper is None or window is None:
            response.success, response.message = False, "there are no data yet"
        elif not self.keeper.reality_gap(window, self._node.now_ns()):
            response.success, response.message = False, "something else is under way; ask again"
        else:
            response.success, response.message = True, "the report will be on twin/reality_gap"
        return response

    def close(self) -> None:
        """End what is under way."""
        if self.keeper is not None:
            self.keeper.close()

    def values(self) -> dict[str, object]:
        """For the node's status."""
        if self.keeper is None:
            return {}
        k = self.keeper
        waits = k.pending.short if k.pending is not None else ""
        return {"model": k.service.short, "model_waits": waits, "renewing": int(k.busy)}

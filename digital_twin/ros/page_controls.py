"""What the page's buttons do: services, parameters and commands of the other nodes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import Twist
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_srvs.srv import SetBool, Trigger

from digital_twin.ros.node import TwinNode
from digital_twin.ros.qos import INTERNAL

PATIENCE = 5.0  # [s] for an answer
FASTEST = (0.5, 0.3, 0.6)  # [m/s], [m/s], [rad/s] that a page can ask for
Say = Callable[[str, int], None]


class PageControls:
    """Calls without waiting; `say` is given what came of it, with a level (0 good, 1 no answer yet, 2 bad).

    Attributes:
        speeds: what cmd_vel says while somebody walks the robot; None: nothing.
    """

    def __init__(self, node: TwinNode[Any], say: Say) -> None:
        self._node, self._say = node, say
        client = node.create_client
        self._stop = client(Trigger, "physical_bridge/emergency_stop")
        self._enable = client(SetBool, "physical_bridge/enable_commands")
        self._resync = client(Trigger, "twin_synchronizer/resync")
        self._inject = client(Trigger, "simulated_robot/inject_fault")
        self._mend = client(Trigger, "simulated_robot/clear_faults")
        self._parameters = client(SetParameters, "simulated_robot/set_parameters")
        self._cmd_vel = node.create_publisher(Twist, "cmd_vel", INTERNAL)
        self.speeds: tuple[float, float, float] | None = None
        self._waiting: dict[int, tuple[str, float]] = {}

    @property
    def simulated(self) -> bool:
        """Whether a simulated robot is there to be broken."""
        return bool(self._inject.service_is_ready())

    @property
    def gait(self) -> bool:
        """Whether a gait controller listens."""
        return bool(self._node.count_subscribers(self._node.resolve_topic_name("cmd_vel")) > 0)

    def emergency_stop(self) -> None:
        """Stop the robot."""
        self.speeds = None
        self._call(self._stop, Trigger.Request(), "emergency stop")

    def release(self) -> None:
        """Let commands pass again."""
        self._call(self._enable, SetBool.Request(data=True), "release")

    def resync(self) -> None:
        """Let the twin start again."""
        self._call(self._resync, Trigger.Request(), "resync")

    def fault(self, text: str) -> None:
        """Break the simulated robot: the parameter says how, then the service does it."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
        request = SetParameters.Request(parameters=[Parameter(name="fault", value=value)])

        def then(answer: Any) -> None:
            if answer.results and answer.results[0].successful:
                self._call(self._inject, Trigger.Request(), "fault")
            else:
                self._say(f"fault: {answer.results[0].reason if answer.results else 'no answer'}", 2)

        self._call(self._parameters, request, "fault", then)

    def mend(self) -> None:
        """Undo all faults."""
        self._call(self._mend, Trigger.Request(), "faults")

    def _call(self, client: Any, request: Any, what: str, then: Callable[[Any], None] | None = None) -> None:
        if not client.service_is_ready():
            self._say(f"{what}: {client.srv_name.strip('/')} is not there", 2)
            return
        future = client.call_async(request)
        number = id(future)
        self._waiting[number] = (what, time.monotonic())

        def done(answered: Any) -> None:
            if self._waiting.pop(number, None) is None:
                return
            answer = answered.result()
            if then is not None:
                then(answer)
            else:
                self._say(f"{what}: {answer.message}", 0 if answer.success else 2)

        future.add_done_callback(done)

    def look(self) -> None:
        """Give up on answers that do not come; to be called now and then."""
        now = time.monotonic()
        for number in [n for n, (_, since) in self._waiting.items() if now - since > PATIENCE]:
            what, _ = self._waiting.pop(number)
            self._say(f"{what}: no answer within {PATIENCE:g} s", 2)

    # Walking

    def walk(self, speeds: Any) -> None:
        """Speeds ahead, to the left [m/s] and turning left [rad/s] from now on; None: stand."""
        before = self.speeds
        try:
            wanted = None if speeds is None else tuple(float(v) for v in speeds)
        except (TypeError, ValueError):
            return
        if wanted is not None and (len(wanted) != 3 or not all(map(math.isfinite, wanted))):
            return
        self.speeds = None
        if wanted is not None:
            x, y, turn = (max(-most, min(v, most)) for v, most in zip(wanted, FASTEST, strict=True))
            self.speeds = (x, y, turn)
        if self.speeds is not None or before is not None:
            self.tell()

    def tell(self) -> None:
        """Publish the speeds; standing when there are none."""
        m = Twist()
        m.linear.x, m.linear.y, m.angular.z = self.speeds or (0.0, 0.0, 0.0)
        self._cmd_vel.publish(m)

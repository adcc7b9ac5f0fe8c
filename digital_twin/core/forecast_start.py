"""All that a forecast starts from, as text: with the same model and settings it comes out the same again, bit for bit."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from digital_twin.core.arrays import Array
from digital_twin.core.base_state import BaseState
from digital_twin.core.command_plan import CommandPlan
from digital_twin.core.errors import TwinError
from digital_twin.core.forecaster import Forecast, Forecaster
from digital_twin.core.power_flow import PowerState
from digital_twin.core.prediction import State

MOST_CHARACTERS = 10_000_000


@dataclass(frozen=True)
class ForecastStart:
    """One forecast before it is made. normal: of the ground in odom; version: of the model; settings: as plain data."""

    state: State
    plan: CommandPlan
    fidelity: str
    horizon: float
    normal: Array
    power: PowerState
    version: str
    settings: dict[str, Any]

    def forecast(self, forecaster: Forecaster) -> Forecast:
        """Make it (again). Raises TwinError as Forecaster.forecast, or when the model is another one."""
        if forecaster.version != self.version:
            raise TwinError(f"the forecast was made with model {self.version}, this one is {forecaster.version}")
        forecaster.ground.normal, forecaster.power_state = self.normal.copy(), self.power
        s = self.state
        return forecaster.forecast(s.stamp_ns, s.q, s.qd, s.base, self.plan, self.fidelity, self.horizon)

    def text(self) -> str:
        """As JSON; arrays are base64 of little-endian doubles, so that no digit is lost."""
        b = self.state.base
        arrays = {
            "q": self.state.q, "qd": self.state.qd, "position": b.position, "rotation": b.rotation, "velocity": b.velocity,
            "turning": b.angular_velocity, "covariance": b.covariance, "normal": self.normal,
            **{f"power/{name}": value for name, value in self.power._asdict().items()},
        }  # fmt: skip
        return json.dumps({
            "stamp": self.state.stamp_ns, "fidelity": self.fidelity, "horizon": self.horizon, "version": self.version,
            "contacts": [bool(c) for c in b.contacts], "plan": self.plan.to_plain(self.state.stamp_ns, _coded),
            "settings": self.settings, **{name: _coded(np.asarray(value)) for name, value in arrays.items()},
        })  # fmt: skip


def read_start(text: str) -> ForecastStart:
    """The opposite of `ForecastStart.text`.

    Raises:
        TwinError: it is none.
    """
    if len(text) > MOST_CHARACTERS:
        raise TwinError("too long for the start of a forecast")
    try:
        m = json.loads(text)
        base = BaseState(
            int(m["stamp"]), _array(m["position"]), _array(m["rotation"]), _array(m["velocity"]), _array(m["turning"]),
            _array(m["covariance"]), np.zeros((6, 6)), tuple(bool(c) for c in m["contacts"]), True,
        )  # fmt: skip
        power = PowerState(*(_array(m[f"power/{name}"]) for name in PowerState._fields))
        state = State(base.stamp_ns, _array(m["q"]), _array(m["qd"]), base)
        plan = CommandPlan.from_plain(len(state.q), m["plan"], _array)
        return ForecastStart(
            state, plan, str(m["fidelity"]), float(m["horizon"]), _array(m["normal"]), power, str(m["version"]),
            dict(m["settings"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise TwinError("not the start of a forecast") from e


def _coded(x: Array) -> dict[str, Any]:
    return {"shape": list(x.shape), "data": base64.b64encode(np.ascontiguousarray(x, dtype="<f8").tobytes()).decode()}


def _array(coded: dict[str, Any]) -> Array:
    flat = np.frombuffer(base64.b64decode(coded["data"], validate=True), "<f8")
    return np.array(flat.reshape(coded["shape"]), dtype=np.float64)

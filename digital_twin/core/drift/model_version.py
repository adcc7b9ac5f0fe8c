"""A version of a robot's model: what was identified, from which data, how it proved itself, and what it came from.

One JSON file each. The content hash is of all that the file says, so two files with one hash are one version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from digital_twin.core.config import build, param, to_plain
from digital_twin.core.description import Description
from digital_twin.core.drift.parameters import Changes, apply
from digital_twin.core.drift.residual_gp import ResidualConfig
from digital_twin.core.errors import ConfigError
from digital_twin.core.robot_config import RobotConfig

FORMAT = "digital_twin model 1"
MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class DataWindow:
    """Which data a version was identified from; empty for the robot as it was brought."""

    from_ns: int = param(0, "stamp of the first sample", unit="ns")
    until_ns: int = param(0, "stamp of the last one", unit="ns")
    samples: int = param(0, "how many", low=0)
    feeds_speed: bool = param(True, "the commands came with speeds")


@dataclass(frozen=True)
class ModelVersion:
    """A version. `errors` are standard errors of what was identified, by name; `scores` those of the holdout."""

    robot: str = param(doc="the robot's name")
    urdf: str = param(doc="SHA-256 of the URDF that it is relative to")
    parent: str = param("", "content hash of the version in service before; empty: none")
    created_ns: int = param(0, "when it was made", unit="ns")
    reason: str = param("", "why it was made")
    changes: Changes = param(Changes, "parameters relative to the URDF and the robot config")
    residual: ResidualConfig = param(ResidualConfig, "torques that no parameter explains")
    data: DataWindow = param(DataWindow)
    scores: dict[str, float] = param({}, "of the holdout")
    errors: dict[str, float] = param({}, "standard errors by the parameter's name")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(_canonical(to_plain(self)).encode()).hexdigest()

    @property
    def short(self) -> str:
        """Twelve digits of the hash."""
        return self.hash[:12]

    def to_json(self) -> str:
        """As a file holds it."""
        return json.dumps({"format": FORMAT, "hash": self.hash, **to_plain(self)}, indent=1, allow_nan=False) + "\n"

    def apply(self, description: Description, config: RobotConfig) -> tuple[Description, RobotConfig]:
        """The robot with this version's parameters.

        Raises:
            ConfigError: it is another robot, or has not the parts that are named.
        """
        if description.sha256 != self.urdf:
            raise ConfigError(
                f"model {self.short}: it is of another robot, or of another version of '{self.robot}': its URDF's hash is "
                f"{self.urdf[:12]}…, not {description.sha256[:12]}…"
            )
        return apply(self.changes, description, config, f"model {self.short}")


def _canonical(plain: object) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_version(text: str, where: str) -> ModelVersion:
    """Read a version's file.

    Raises:
        ConfigError: one line: not JSON, not a version, an unknown key, or not what its hash says.
    """
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{where}: not JSON: {e}") from e
    if not isinstance(said, dict) or said.pop("format", "") != FORMAT:
        raise ConfigError(f"{where}: not a model version ('format' must be '{FORMAT}')")
    expected = said.pop("hash", "")
    version = build(ModelVersion, said, where)
    if version.hash != expected:
        raise ConfigError(f"{where}: its content is not what its hash says: it was damaged or edited")
    return version


def nominal(description: Description) -> ModelVersion:
    """The robot as it was brought."""
    return ModelVersion(description.name, description.sha256, reason="as brought")


def flat(version: ModelVersion) -> dict[str, float]:
    """All changed parameters by name, for lists and differences: "mass of l_thigh"."""
    c, out = version.changes, {}
    for name, body in c.bodies.items():
        out[f"mass of {name}"] = body.mass
        out |= {f"com {a} of {name}": v for a, v in zip("xyz", body.com, strict=True)}
        out |= {
            f"inertia {k} of {name}": v for k, v in zip(("xx", "xy", "xz", "yy", "yz", "zz"), body.inertia, strict=True)
        }
    for name, joint in c.joints.items():
        for f in fields(joint):
            value = getattr(joint, f.name)
            if value is not None:
                out[f"{f.name.replace('_', ' ')} of {name}"] = value
    for name, payload in c.payloads.items():
        out[f"payload of {name}"] = payload.mass
    if c.delay is not None:
        out["command delay"] = c.delay
    return out


def difference(a: ModelVersion, b: ModelVersion) -> dict[str, tuple[float | None, float | None]]:
    """Parameters that differ, with both values; None: as brought."""
    first, second = flat(a), flat(b)
    names = list(dict.fromkeys([*first, *second]))
    return {n: (first.get(n), second.get(n)) for n in names if first.get(n) != second.get(n)}

"""ROS parameters from config dataclasses: nested fields become dotted names; ranges and reasons become descriptors."""

from __future__ import annotations

import typing
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from digital_twin.core.config import STANDARD_PARAMETERS, Flat, build, flatten, span, unflatten
from digital_twin.core.errors import ConfigError, unknown

T = TypeVar("T")


def declare(node: Node, cls: type[T]) -> T:
    """Declare every field of `cls` on the node and return an instance with the values in force.

    Raises:
        ConfigError: an unknown parameter, a wrong type or a value out of range, in one line.
    """
    where = f"node {node.get_name()}"
    flat = {p.name: p for p in flatten(cls)}
    for name in node._parameter_overrides:
        if name not in flat and not name.startswith(("qos_overrides.", *STANDARD_PARAMETERS)):
            raise ConfigError(f"{where}: {unknown('parameter', name, flat)}")
    values = {p.name: _declare_one(node, p, where) for p in flat.values()}
    return build(cls, unflatten(values), where)


def _declare_one(node: Node, p: Flat, where: str) -> Any:
    given = node._parameter_overrides.get(p.name)
    # YAML writes 1 where 1.0 is meant; rclpy would refuse it.
    if given is not None and p.kind is float and isinstance(given.value, int) and not isinstance(given.value, bool):
        node._parameter_overrides[p.name] = type(given)(p.name, value=float(given.value))
    if given is not None and typing.get_origin(p.kind) is list and given.value is not None:
        node._parameter_overrides[p.name] = type(given)(p.name, value=list(given.value))
    try:
        parameter = node.declare_parameter(p.name, p.default, _descriptor(p))
    except (InvalidParameterTypeException, InvalidParameterValueException) as e:
        value = given.value if given is not None else p.default
        allowed = f", allowed: {span(p.meta)}" if span(p.meta) else ""
        kind = getattr(p.kind, "__name__", str(p.kind))
        raise ConfigError(f"{where}: {p.name}: {value!r} is not valid; expected {kind}{allowed}") from e
    value = parameter.value
    return list(value) if typing.get_origin(p.kind) is list else value


def _descriptor(p: Flat) -> ParameterDescriptor:
    d = ParameterDescriptor(description=p.meta.doc + (f" [{p.meta.unit}]" if p.meta.unit else ""))
    d.read_only = not p.meta.live
    d.dynamic_typing = typing.get_origin(p.kind) is list  # an empty list has no type of its own
    low, high = p.meta.low, p.meta.high
    if p.meta.choices:
        d.additional_constraints = "one of: " + ", ".join(p.meta.choices)
    elif low is not None or high is not None:
        if p.kind is int:
            ends = (-(2**62) if low is None else int(low), 2**62 if high is None else int(high))
            d.integer_range = [IntegerRange(from_value=ends[0], to_value=ends[1], step=0)]
        elif p.kind is float:
            d.floating_point_range = [
                FloatingPointRange(
                    from_value=-1e300 if low is None else low, to_value=1e300 if high is None else high, step=0.0
                )
            ]
    return d

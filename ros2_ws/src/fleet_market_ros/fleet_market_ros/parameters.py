"""Parameters of a node: declared with a description and a range, checked, and refused with a text that says how to mend it.

A wrong value in a parameter file does not end the process: the parameter keeps its default, `Parameters.read` raises what
was wrong, and the node stays unconfigured until it is set to something that can be used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from fleet_market.errors import InputError

SOURCE = "parameters"
FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")
"""What rclpy itself declares, or may."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One parameter of a node."""

    name: str
    default: Any
    """Also says of which type it is."""
    about: str
    least: float | None = None
    most: float | None = None
    choices: Callable[[], Sequence[str]] | None = None
    """What a text may be; asked only when it is to be checked."""
    needed: bool = False
    """An empty text is refused when the node is configured."""
    live: bool = False
    """May be set while the node is active; the others only while it is unconfigured."""

    def descriptor(self) -> ParameterDescriptor:
        """Return what ``ros2 param describe`` tells."""
        when = "" if self.live else " Read when the node is configured."
        descriptor = ParameterDescriptor(name=self.name, description=self.about + when)
        if self.least is not None and self.most is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(self.least), to_value=int(self.most), step=0)]
            else:
                limits = FloatingPointRange(from_value=float(self.least), to_value=float(self.most), step=0.0)
                descriptor.floating_point_range = [limits]
        return descriptor

    def check(self, value: Any) -> None:
        """Raise `InputError` if the parameter cannot have this value."""
        if type(value) is not type(self.default):
            raise InputError(SOURCE, self.name, value, f"use a {_kind(self.default)}, e.g. {self.default!r}")
        if self.least is not None and self.most is not None:
            if not (math.isfinite(value) and self.least <= value <= self.most):
                raise InputError(SOURCE, self.name, value, f"use a number from {self.least:g} to {self.most:g}")
        elif self.choices is not None and value not in (known := self.choices()):
            raise InputError(SOURCE, self.name, value, f"use one of {', '.join(known)}")


class Parameters:
    """The parameters of one node.

    Parameters
    ----------
    node : Node
    declared : sequence of Declared
    changed : callable
        Called with name and value, in rclpy's thread, when a `live` one is set.
    fixed : callable
        Returns whether those that are not `live` cannot be set now.
    """

    def __init__(
        self,
        node: Node,
        declared: Sequence[Declared],
        changed: Callable[[str, Any], None] = lambda _name, _value: None,
        fixed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._node, self._declared = node, {one.name: one for one in declared}
        self._changed, self._fixed = changed, fixed
        self._wrong: dict[str, InputError] = {}
        for one in declared:
            self._declare(one)
        given: dict[str, Any] = getattr(node, "_parameter_overrides", {})
        self.unknown = [n for n in given if n not in self._declared and not n.startswith(FOREIGN)]
        """Names in the parameter file that this node does not know."""
        node.add_on_set_parameters_callback(self._on_set)

    def read(self) -> dict[str, Any]:
        """Return all values by name.

        Raises
        ------
        InputError
            If one of them cannot be used.
        """
        if self._wrong:
            raise next(iter(self._wrong.values()))
        values = {name: self._node.get_parameter(name).value for name in self._declared}
        for name, value in values.items():
            one = self._declared[name]
            if one.needed and not value:
                raise InputError(SOURCE, name, value, "set it in the parameter file, or with `ros2 param set`")
            one.check(value)
        return values

    def _declare(self, one: Declared) -> None:
        try:
            value = self._node.declare_parameter(one.name, one.default, one.descriptor()).value
            one.check(value)
        except (InvalidParameterTypeException, InvalidParameterValueException):
            given = self._node._parameter_overrides[one.name].value  # noqa: SLF001 - rclpy has no other way to them
            self._node.declare_parameter(one.name, one.default, one.descriptor(), ignore_override=True)
            try:
                one.check(given)
            except InputError as error:
                self._wrong[one.name] = error
        except InputError as error:
            self._wrong[one.name] = error

    def _check_time(self, one: Declared, value: Any) -> None:
        if not one.live and self._fixed():
            mend = "is read when the node is configured: deactivate and clean up the node first"
            raise InputError(SOURCE, one.name, value, mend)

    def _on_set(self, wanted: list[Parameter]) -> SetParametersResult:
        mine = [(self._declared[one.name], one.value) for one in wanted if one.name in self._declared]
        try:
            for one, value in mine:
                one.check(value)
                self._check_time(one, value)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for one, value in mine:
            self._wrong.pop(one.name, None)
            self._changed(one.name, value)
        return SetParametersResult(successful=True)


def _kind(default: Any) -> str:
    return {bool: "truth value", int: "whole number", float: "number", str: "text"}[type(default)]

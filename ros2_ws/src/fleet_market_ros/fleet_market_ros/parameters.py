"""Parameters of a node: declared with a description and a range, checked, and refused with a text that says how to mend it.

A wrong value in a parameter file does not end the process: the parameter keeps its default, `Parameters.read` raises what
was wrong, and the node stays unconfigured until it is set to something that can be used.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from fleet_market.errors import InputError
from fleet_market.ids import Identifier
from fleet_market.robot.fleet import nested

SOURCE = "parameters"
FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")
"""What rclpy itself declares, or may."""
NEW_START = "is read when the node starts: start it anew with another value"
"""Why no parameter of a node can be set that is no lifecycle node."""


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
    kind: type[Identifier] | None = None
    """Of which kind of identifier a text must be, where it is not empty."""
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
        elif self.kind is not None and value:
            try:
                self.kind(value)
            except ValueError:
                raise InputError(SOURCE, self.name, value, f"use {self.kind.RULE}") from None


class Parameters:
    """The parameters of one node.

    Parameters
    ----------
    node : Node
    declared : sequence of Declared
    changed : callable
        Called with name and value, in rclpy's thread, when a `live` one is set.
    fixed : callable
        Returns why those that are not `live` cannot be set now, as "is ...: use ..."; empty if they can.
    others : str
        What the names of parameters begin with that are known only later (`declare_others`); empty: there are none.
    """

    def __init__(
        self,
        node: Node,
        declared: Sequence[Declared],
        changed: Callable[[str, Any], None] = lambda _name, _value: None,
        fixed: Callable[[], str] = lambda: "",
        others: str = "",
    ) -> None:
        self._node, self._declared, self._others = node, {one.name: one for one in declared}, others
        self._changed, self._fixed = changed, fixed
        self._wrong: dict[str, InputError] = {}
        self._declaring = False
        for one in declared:
            self._declare(one)
        given: dict[str, Any] = getattr(node, "_parameter_overrides", {})
        self._defaults: dict[str, Any] = {}
        """Of the other parameters, by the rest of their names."""
        for name in filter(self._is_other, given):
            node.declare_parameter(name, descriptor=_any(name))
        self.unknown = [n for n in given if not (n in self._declared or self._is_other(n) or n.startswith(FOREIGN))]
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

    def others(self) -> dict[str, Any]:
        """Return what was given or set of the parameters that begin with `others`, nested, by the rest of their names."""
        found = self._node.get_parameters_by_prefix(self._others.rstrip("."))
        values = {name: _plain(parameter.value) for name, parameter in found.items()}
        return nested({n: value for n, value in values.items() if value is not None and value != self._defaults.get(n)})

    def declare_others(self, defaults: Mapping[str, Any]) -> None:
        """Declare parameters that begin with `others`, by the rest of their names; those that are there stay so."""
        self._declaring = True
        try:
            for rest, default in defaults.items():
                name = self._others + rest
                if not self._node.has_parameter(name):
                    self._node.declare_parameter(name, default, _any(name, default), ignore_override=True)
                    self._defaults[rest] = default
        finally:
            self._declaring = False

    def _is_other(self, name: str) -> bool:
        return bool(self._others) and name.startswith(self._others)

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

    def _check(self, wanted: Parameter) -> None:
        """Raise `InputError` if a parameter cannot be set to this now."""
        one = self._declared.get(wanted.name)
        if one is not None:
            one.check(wanted.value)
        elif self._declaring or not self._is_other(wanted.name):
            return
        if (one is None or not one.live) and (why := self._fixed()):
            raise InputError(SOURCE, wanted.name, wanted.value, why)

    def _on_set(self, wanted: list[Parameter]) -> SetParametersResult:
        mine = [(self._declared[one.name], one.value) for one in wanted if one.name in self._declared]
        try:
            for given in wanted:
                self._check(given)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for one, value in mine:
            self._wrong.pop(one.name, None)
            self._changed(one.name, value)
        return SetParametersResult(successful=True)


def _plain(value: Any) -> Any:
    """Return a value as a file has it: rclpy has arrays of numbers for lists."""
    return list(value) if isinstance(value, array | tuple) else value


def _any(name: str, default: Any = None) -> ParameterDescriptor:
    """Return the descriptor of a parameter that may be of any type."""
    usual = "" if default is None else f" Usually {default!r}."
    about = f"Setting of the driver, see docs/drivers.md.{usual} Read when the node is configured."
    return ParameterDescriptor(name=name, description=about, dynamic_typing=True)


def _kind(default: Any) -> str:
    return {bool: "truth value", int: "whole number", float: "number", str: "text"}[type(default)]

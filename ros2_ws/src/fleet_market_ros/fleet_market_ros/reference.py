"""The reference of all topics, services, actions and parameters, out of the source: nothing of it is written twice.

``python -m fleet_market_ros.reference docs/ros_reference.md`` writes the page; without a path it is printed. Nothing is
imported that is described, so that it runs where neither ROS nor the interfaces are installed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
INTERFACES = HERE.parents[1] / "fleet_market_msgs"
NODES = {
    "robot_agent": ("robot_agent", "market_side", "diagnostics"),
    "market_gateway": ("market_gateway",),
    "oracle_view": ("oracle_view",),
    "recorder": ("recorder",),
    "simulator": ("simulator", "simulated_base"),
    "robot_agent with the driver base": ("base",),
    "robot_agent with the driver nav2": ("nav2",),
    "simulator with --nav2": ("nav2_stand_in",),
}
"""Which modules speak for which node."""
WAYS = {
    "publisher": "publishes",
    "subscribe": "subscribes",
    "serve": "service",
    "action_client": "calls action",
    "ActionServer": "action",
}
NAV2 = {"[0]": "nav2_msgs/action/NavigateToPose", "[1]": "nav2_msgs/action/ComputePathToPose"}
DEFAULT_QOS = "reliable, volatile, 10"
HEAD = """# ROS 2 reference

Written by `python -m fleet_market_ros.reference docs/ros_reference.md` from the source; do not edit. Names are relative to
the node's namespace, unless they begin with `/`. Beside these, `robot_agent` has the services of a lifecycle node
(`get_state`, `change_state` ...), and every node those of parameters."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A topic, service or action of a node."""

    way: str
    name: str
    kind: str
    qos: str


def render() -> str:
    """Return the page."""
    lines = [HEAD]
    for node, modules in NODES.items():
        trees = [ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8")) for module in modules]
        lines.append(f"\n## `{node}`\n" if " " not in node else f"\n## {node}\n")
        rows = [one for tree in trees for one in endpoints(tree)]
        table = [(one.way, f"`{one.name}`", f"`{one.kind}`", one.qos) for one in rows]
        lines += _table(("", "name", "type", "quality of service"), table) if table else []
        if given := [row for tree in trees for row in parameters(tree)]:
            lines += [""] * bool(table) + _table(("parameter", "default", "range", "set while active", "meaning"), given)
    lines += ["\n## Qualities of service\n", *_table(("profile", "reliability", "durability", "depth"), _profiles())]
    for folder in ("msg", "srv", "action"):
        for file in sorted((INTERFACES / folder).glob(f"*.{folder}")):
            text = file.read_text(encoding="utf-8").strip()
            lines.append(f"\n## `fleet_market_msgs/{folder}/{file.stem}`\n\n```\n{text}\n```")
    return "\n".join(lines) + "\n"


def endpoints(tree: ast.Module) -> list[Endpoint]:
    """Return the topics, services and actions that a module opens."""
    imported = _imported(tree)
    found = []
    for call in _calls(tree):
        way = _called(call)
        if way not in WAYS or len(call.args) < 2:
            continue
        kind, name, *rest = call.args[1:] if way == "ActionServer" else call.args
        qos = ""
        if way in {"publisher", "subscribe"}:
            given = rest[1:] if way == "subscribe" else rest
            given += [word.value for word in call.keywords if word.arg == "depth"]
            qos = _qos(given[0], tree) if given else DEFAULT_QOS
        found.append(Endpoint(WAYS[way], _name(name, tree), _kind(kind, imported), qos))
    return found


def parameters(tree: ast.Module) -> list[tuple[str, ...]]:
    """Return the parameters that a module declares: name, default, range, whether live, meaning."""
    rows: list[tuple[str, ...]] = []
    for call in _calls(tree):
        if _called(call) != "Declared":
            continue
        name, default, about, *limits = call.args
        words = {word.arg: word.value for word in call.keywords}
        value = f"`{ast.unparse(default)}`" if isinstance(default, ast.Constant) else "the environment's FLEET_MARKET_KEYS"
        within = " to ".join(ast.unparse(limit) for limit in limits)
        must = "needed" if "needed" in words else within
        rows.append((f"`{_text(name)}`", value, must, "yes" if "live" in words else "", _text(about)))
    return rows


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    yield from sorted(found, key=lambda call: (call.lineno, call.col_offset))


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return str(ast.literal_eval(node))


def _imported(tree: ast.Module) -> dict[str, str]:
    """Return ROS's types that a module imports, by the names that it uses."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None]
    return {
        alias.asname or alias.name: f"{(node.module or '').replace('.', '/')}/{alias.name}"
        for node in statements
        for alias in node.names
    }


def _kind(node: ast.expr, imported: dict[str, str]) -> str:
    text = ast.unparse(node)
    if text == "_tf_message()":
        return "tf2_msgs/msg/TFMessage"
    if isinstance(node, ast.Subscript):
        return NAV2[text[text.index("[") :]]
    if isinstance(node, ast.Attribute):
        *_, folder, name = text.split(".")
        return f"fleet_market_msgs/{folder}/{name}"
    return imported[text]


def _name(node: ast.expr, tree: ast.Module) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_part, node.values))
    if isinstance(node, ast.Subscript):
        return _part(node)
    return _text(_assigned(node, tree))


def _part(node: ast.expr) -> str:
    """Return a part of a composed name: what it says, a robot's namespace, or the setting that it is taken from."""
    value = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(value, ast.Subscript):
        return f"driver_settings.{ast.literal_eval(value.slice)}"
    return str(value.value) if isinstance(value, ast.Constant) else "/ROBOT"


def _assigned(node: ast.expr, tree: ast.Module) -> ast.expr:
    """Return what a name stands for in its module, else the expression itself."""
    if isinstance(node, ast.Name):
        for other in ast.walk(tree):
            if isinstance(other, ast.Assign) and [ast.unparse(target) for target in other.targets] == [node.id]:
                return other.value
    return node


def _qos(node: ast.expr, tree: ast.Module) -> str:
    value = _assigned(node, tree)
    if isinstance(value, ast.Attribute):
        return f"`{value.attr}`"
    return _profile(value) if isinstance(value, ast.Call) else f"reliable, volatile, {ast.unparse(value)}"


def _profile(call: ast.Call) -> str:
    text = ast.unparse(call)
    latched = "TRANSIENT_LOCAL" in text or "latched=True" in text
    best = "BEST_EFFORT" in text or "reliable=False" in text
    depth = [ast.unparse(w.value) for w in call.keywords if w.arg == "depth"] + [ast.unparse(a) for a in call.args[:1]]
    return f"{'best effort' if best else 'reliable'}, {'transient local' if latched else 'volatile'}, {depth[0]}"


def _profiles() -> list[tuple[str, ...]]:
    tree = ast.parse((HERE / "qos.py").read_text(encoding="utf-8"))
    made = [s for s in tree.body if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call)]
    return [
        (f"`{ast.unparse(s.targets[0])}`", *_profile(s.value).split(", ")) for s in made if isinstance(s.value, ast.Call)
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def main() -> None:
    """Write the page to the path on the command line, or print it."""
    page = render()
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()

"""Records what a launch file would do: the part of the API of ROS's `launch` that our launch files use.

Classes and parameters are those of `launch` 3 (docs/launching.md says where they were read). What it has not is refused
here too: a class by being absent, a keyword by the base class, as there.
"""

import importlib.util
from pathlib import Path


class Action:
    """The base class of all actions; keywords that no class in between has taken end here."""

    def __init__(self, *, condition=None):
        self.condition = condition


class Event:
    pass


class EventHandler:
    def __init__(self, *, matcher, handle_once=False):
        self.handle_once = handle_once


def texts(parts):
    """Return whether all are texts, as commands, environments and launch arguments must be."""
    return all(isinstance(part, str) for part in parts)


class LaunchContext:
    def __init__(self):
        self.launch_configurations = {}
        self.is_shutdown = False


class LaunchDescription:
    def __init__(self, initial_entities=None, *, deprecated_reason=None):
        self.entities = list(initial_entities or [])
        assert all(isinstance(entity, Action) for entity in self.entities)


def load(path):
    """Return what a launch file describes."""
    spec = importlib.util.spec_from_file_location(Path(path).stem.replace(".", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def play(entities, context):
    """Yield all actions that follow from some entities, as the launch service would meet them."""
    from launch import actions

    for entity in entities:
        match entity:
            case actions.DeclareLaunchArgument():
                entity.declare(context)
            case actions.OpaqueFunction():
                yield from play(entity.function(context, *entity.args, **entity.kwargs) or [], context)
            case actions.IncludeLaunchDescription():
                context.launch_configurations.update(entity.launch_arguments)
                yield from play(entity.launch_description_source.description().entities, context)
            case _:
                yield entity

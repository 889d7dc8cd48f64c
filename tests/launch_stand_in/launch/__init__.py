"""Records what a launch file would do: the part of the API of ROS's `launch` that our launch files use.

Names and parameters are those of `launch` 3; everything else is refused by being absent.
"""

import importlib.util
from pathlib import Path


class LaunchContext:
    def __init__(self):
        self.launch_configurations = {}
        self.is_shutdown = False


class LaunchDescription:
    def __init__(self, initial_entities=None):
        self.entities = list(initial_entities or [])


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
                yield from play(entity.function(context) or [], context)
            case actions.IncludeLaunchDescription():
                context.launch_configurations.update(entity.launch_arguments)
                yield from play(entity.launch_description_source.description().entities, context)
            case _:
                yield entity

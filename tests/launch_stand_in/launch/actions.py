class DeclareLaunchArgument:
    def __init__(self, name, *, default_value=None, description=None, choices=None):
        self.name, self.default_value, self.description, self.choices = name, default_value, description, choices

    def declare(self, context):
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                raise RuntimeError(f"Required launch argument {self.name!r} was not provided")
            context.launch_configurations[self.name] = self.default_value
        value = context.launch_configurations[self.name]
        assert isinstance(value, str), f"launch argument {self.name} must be a text, was {value!r}"
        if self.choices is not None and value not in self.choices:
            raise RuntimeError(f"Argument {self.name!r} provided value {value!r} is not valid: {self.choices}")


class OpaqueFunction:
    def __init__(self, *, function):
        self.function = function


class IncludeLaunchDescription:
    def __init__(self, launch_description_source, *, launch_arguments=None):
        self.launch_description_source, self.launch_arguments = launch_description_source, list(launch_arguments or [])


class ExecuteProcess:
    def __init__(self, *, cmd, name=None, additional_env=None, output="log"):
        assert all(isinstance(part, str) for part in cmd)
        assert output in {"screen", "log", "both"}
        self.cmd, self.name, self.additional_env, self.output = cmd, name, additional_env or {}, output


class RegisterEventHandler:
    def __init__(self, event_handler):
        self.event_handler = event_handler


class EmitEvent:
    def __init__(self, *, event):
        self.event = event


class LogInfo:
    def __init__(self, *, msg):
        self.msg = msg


class TimerAction:
    def __init__(self, *, period, actions):
        assert isinstance(period, float)
        self.period, self.actions = period, list(actions)

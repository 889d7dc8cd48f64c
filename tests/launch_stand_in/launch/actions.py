from launch import Action, Event, EventHandler, texts


class DeclareLaunchArgument(Action):
    def __init__(self, name, *, default_value=None, description=None, choices=None, **kwargs):
        super().__init__(**kwargs)
        assert isinstance(name, str)
        assert choices is None or default_value is None or default_value in choices
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


class OpaqueFunction(Action):
    def __init__(self, *, function, args=None, kwargs=None, **left_over_kwargs):
        super().__init__(**left_over_kwargs)
        assert callable(function)
        self.function, self.args, self.kwargs = function, args or (), kwargs or {}


class IncludeLaunchDescription(Action):
    def __init__(self, launch_description_source, *, launch_arguments=None, **kwargs):
        super().__init__(**kwargs)
        self.launch_description_source, self.launch_arguments = launch_description_source, list(launch_arguments or [])
        assert texts(part for pair in self.launch_arguments for part in pair)


class ExecuteLocal(Action):
    def __init__(
        self, *, process_description, shell=False, sigterm_timeout=None, sigkill_timeout=None, emulate_tty=False,
        output="log", output_format="", cached_output=False, log_cmd=False, on_exit=None, respawn=False,
        respawn_delay=None, respawn_max_retries=-1, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        assert output in {"screen", "log", "both", "own_log", "full"}
        self.process_description, self.output = process_description, output


class ExecuteProcess(ExecuteLocal):
    def __init__(self, *, cmd, prefix=None, name=None, cwd=None, env=None, additional_env=None, **kwargs):
        super().__init__(process_description=None, **kwargs)
        assert texts(cmd)
        assert texts(part for pair in (additional_env or {}).items() for part in pair)
        assert name is None or isinstance(name, str)
        self.cmd, self.name, self.additional_env = cmd, name, additional_env or {}


class RegisterEventHandler(Action):
    def __init__(self, event_handler, **kwargs):
        super().__init__(**kwargs)
        assert isinstance(event_handler, EventHandler)
        self.event_handler = event_handler


class EmitEvent(Action):
    def __init__(self, *, event, **kwargs):
        super().__init__(**kwargs)
        assert isinstance(event, Event)
        self.event = event


class LogInfo(Action):
    def __init__(self, *, msg, **kwargs):
        super().__init__(**kwargs)
        assert isinstance(msg, str)
        self.msg = msg


class TimerAction(Action):
    def __init__(self, *, period, actions, cancel_on_shutdown=True, **kwargs):
        super().__init__(**kwargs)
        assert isinstance(period, float)
        self.period, self.actions = period, list(actions)
        assert all(isinstance(action, Action) for action in self.actions)

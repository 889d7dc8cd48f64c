from launch import Action, EventHandler, actions


class OnActionEventBase(EventHandler):
    def __init__(self, *, action_matcher, on_event, target_event_cls=None, target_action_cls=None, **kwargs):
        super().__init__(matcher=None, **kwargs)
        if not callable(action_matcher) and not isinstance(action_matcher, (actions.ExecuteLocal, type(None))):
            raise TypeError("action_matcher must be an 'ExecuteLocal' instance or a callable")
        if not callable(on_event) and not all(isinstance(one, Action) for one in on_event):
            raise TypeError("expected all items in 'on_event' iterable to be of type 'LaunchDescriptionEntity'")
        self.target_action = action_matcher


class OnProcessExit(OnActionEventBase):
    def __init__(self, *, target_action=None, on_exit, **kwargs):
        super().__init__(action_matcher=target_action, on_event=on_exit, **kwargs)
        self.on_exit = on_exit

    def happens(self, event, context):
        return self.on_exit(event, context) if callable(self.on_exit) else self.on_exit


class OnProcessIO(OnActionEventBase):
    def __init__(self, *, target_action=None, on_stdin=None, on_stdout=None, on_stderr=None, **kwargs):
        super().__init__(action_matcher=target_action, on_event=lambda _event, _context: None, **kwargs)
        assert all(one is None or callable(one) for one in (on_stdin, on_stdout, on_stderr))
        self.on_stdin, self.on_stdout, self.on_stderr = on_stdin, on_stdout, on_stderr

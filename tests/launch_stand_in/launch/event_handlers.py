class OnProcessExit:
    def __init__(self, *, target_action=None, on_exit=None):
        self.target_action, self.on_exit = target_action, on_exit

    def happens(self, event, context):
        return self.on_exit(event, context) if callable(self.on_exit) else self.on_exit


class OnProcessIO:
    def __init__(self, *, target_action=None, on_stdin=None, on_stdout=None, on_stderr=None):
        self.target_action, self.on_stdin, self.on_stdout, self.on_stderr = target_action, on_stdin, on_stdout, on_stderr

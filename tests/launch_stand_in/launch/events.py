from launch import Event


class Shutdown(Event):
    def __init__(self, *, reason="reason not given", due_to_sigint=False):
        assert isinstance(reason, str)
        self.reason, self.due_to_sigint = reason, due_to_sigint

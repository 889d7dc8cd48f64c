from launch.actions import ExecuteProcess


class Node(ExecuteProcess):
    def __init__(
        self, *, executable, package=None, name=None, namespace=None, parameters=None, remappings=None, arguments=None,
        **kwargs,
    ):  # fmt: skip
        super().__init__(cmd=[], name=name, **kwargs)
        assert parameters is None or all(value is not None for group in parameters for value in group.values())
        self.package, self.executable, self.namespace = package, executable, namespace
        self.parameters, self.arguments = parameters or [], [*(arguments or [])]

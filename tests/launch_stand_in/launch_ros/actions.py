from launch import texts
from launch.actions import ExecuteProcess

PLAIN = (bool, int, float, str)


class Node(ExecuteProcess):
    def __init__(
        self, *, executable, package=None, name=None, namespace=None, exec_name=None, parameters=None, remappings=None,
        ros_arguments=None, arguments=None, **kwargs,
    ):  # fmt: skip
        kwargs["name"] = exec_name
        super().__init__(cmd=[], **kwargs)
        if parameters is not None and not isinstance(parameters, list):
            raise TypeError("'parameters' of Node must be a list")
        for value in (value for group in parameters or [] for value in group.values()):
            plain = isinstance(value, PLAIN) or (isinstance(value, (list, tuple)) and value and _alike(value))
            if not plain:  # what is empty has no type there, and None is none
                raise TypeError(f"Unexpected type for parameter value {value!r}")
        assert texts([executable, *(arguments or [])])
        self.package, self.executable, self.namespace = package, executable, namespace
        self.parameters, self.arguments = parameters or [], [*(arguments or [])]


def _alike(values):
    return len({type(value) for value in values}) == 1 and isinstance(values[0], PLAIN)

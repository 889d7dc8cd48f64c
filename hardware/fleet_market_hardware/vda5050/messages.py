"""What we send, strictly: orders and instant actions, checked against the standard's graph rules before they leave.

Names and ranges are those of VDA 5050 2.1.0, sections 6.6 and 6.8; `versions` turns them into those of other versions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

PI = 3.141592653589793
UINT32 = 2**32 - 1


class _Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )

    def body(self) -> dict[str, Any]:
        """Return the message without its header, in the names of the wire."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Id = Annotated[str, Field(min_length=1, max_length=128)]
Sequence32 = Annotated[int, Field(ge=0, le=UINT32)]


class ActionParameter(_Wire):
    """A named value of an action."""

    key: Id
    value: str | int | float | bool | list[Any]


class Action(_Wire):
    """Something to do on a node, or at once."""

    action_type: Id
    action_id: Id
    blocking_type: Literal["NONE", "SOFT", "HARD"]
    action_parameters: tuple[ActionParameter, ...] = ()


class NodePosition(_Wire):
    """Where a node is, in the vehicle's map, metres and radians."""

    x: float
    y: float
    theta: Annotated[float, Field(ge=-PI, le=PI)] | None = None
    allowed_deviation_xy: Annotated[float, Field(ge=0)] | None = Field(default=None, alias="allowedDeviationXY")
    allowed_deviation_theta: Annotated[float, Field(ge=0, le=PI)] | None = None
    map_id: Id


class Node(_Wire):
    """A place of the order."""

    node_id: Id
    sequence_id: Sequence32
    released: bool
    node_position: NodePosition | None = None
    actions: tuple[Action, ...] = ()


class Edge(_Wire):
    """The way between two nodes."""

    edge_id: Id
    sequence_id: Sequence32
    released: bool
    start_node_id: Id
    end_node_id: Id
    max_speed: Annotated[float, Field(gt=0)] | None = None
    actions: tuple[Action, ...] = ()


class Order(_Wire):
    """A graph of nodes and edges: the released ones are the base, the others the horizon."""

    order_id: Id
    order_update_id: Sequence32
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    edges: tuple[Edge, ...] = ()

    @model_validator(mode="after")
    def _is_a_graph(self) -> Self:
        """Check the rules that the schemas do not: VDA 5050 2.1.0, section 6.6.1 and 6.6.2."""
        if len(self.edges) != len(self.nodes) - 1:
            raise ValueError(f"{len(self.nodes)} nodes need one edge fewer, there are {len(self.edges)}")
        if not self.nodes[0].released or self.nodes[0].sequence_id % 2:
            raise ValueError("the first node must be released and its sequenceId even")
        for (a, b), edge in zip(pairwise(self.nodes), self.edges, strict=True):
            if (edge.sequence_id, b.sequence_id) != (a.sequence_id + 1, a.sequence_id + 2):
                raise ValueError(f"sequenceId must run on by one, after node {a.sequence_id} it does not")
            if (edge.start_node_id, edge.end_node_id) != (a.node_id, b.node_id):
                raise ValueError(f"edge {edge.edge_id} must lead from {a.node_id} to {b.node_id}")
            if b.released and not a.released:
                raise ValueError(f"node {b.node_id} must not be released behind one that is not")
            if edge.released != b.released:
                raise ValueError(f"edge {edge.edge_id} must be released exactly where its end is")
        return self


class InstantActions(_Wire):
    """Actions to carry out at once."""

    actions: Annotated[tuple[Action, ...], Field(min_length=1)]

"""A lifecycle node whose transitions are coroutines of the event loop.

rclpy's own lifecycle node calls its transitions in the thread that spins: one that waited for telemetry, or for a task to
be finished, would keep the telemetry away for which it waits. Here `change_state` is answered by a coroutine, the state
machine of rcl is moved in a thread of its own, and rclpy's thread stays free. It is none of the event loop's own threads:
they are few, each transition would hold one, and what the transitions of many nodes want done in such a thread themselves
would never be begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from fleet_market.errors import FleetMarketError

log = logging.getLogger("lifecycle")

TRANSITIONS = {1: "configure", 2: "cleanup", 3: "activate", 4: "deactivate", 5: "shutdown", 6: "shutdown", 7: "shutdown"}
"""Numbers of lifecycle_msgs/Transition."""


class Steps(Protocol):
    """What a node does in its transitions.

    A `FleetMarketError` or `TimeoutError` means that the transition fails and the node stays in the state in which it was;
    anything else is an error: `recover` is awaited and the node is unconfigured then.
    """

    async def configure(self) -> None:
        """Check all that can be checked before the robot moves."""

    async def activate(self) -> None:
        """Begin."""

    async def deactivate(self) -> None:
        """End what was begun, in order."""

    async def cleanup(self) -> None:
        """Forget the configuration."""

    async def recover(self) -> None:
        """End everything at once, after an error or before the process ends."""


class ManagedNode(LifecycleNode):  # type: ignore[misc]  # rclpy carries no types
    """A lifecycle node that does `Steps`. Make it on the event loop.

    Parameters
    ----------
    name : str
    steps : Steps
    **more
        As for `rclpy.node.Node`.
    """

    def __init__(self, name: str, *, steps: Steps, **more: Any) -> None:
        self._steps, self._loop = steps, asyncio.get_running_loop()
        self._busy = False
        self.trouble: BaseException | None = None
        """Why the latest transition failed; None if it did not."""
        super().__init__(name, **more)

    def answer_with(self, on_loop: Callable[..., Callable[..., Coroutine[Any, Any, Any]]]) -> None:
        """Have `change_state` answered on the event loop, by the bridge that `fleet_market_ros.ros.Ros` has."""
        self._service_change_state.callback = on_loop(self._on_change_state)

    @property
    def label(self) -> str:
        """The state: unconfigured, inactive, active, finalized, or one of those between."""
        return str(self._state_machine.current_state[1])

    @property
    def is_busy(self) -> bool:
        """Whether a transition is under way."""
        return self._busy

    async def transition(self, name: str) -> bool:
        """Make the transition configure, activate, deactivate, cleanup or shutdown; return whether it succeeded."""
        if self._busy:
            log.warning("%s refused: another transition is under way", name)
            return False
        self._busy, self.trouble = True, None
        thread = ThreadPoolExecutor(1, "transition")
        try:
            trigger = getattr(self, f"trigger_{name}")
            return bool(await self._loop.run_in_executor(thread, trigger) == TransitionCallbackReturn.SUCCESS)
        except Exception as error:  # noqa: BLE001 - rcl refuses by an error of its own
            log.warning("%s refused: %s", name, error)
            return False
        finally:
            thread.shutdown(wait=False)
            self._busy = False

    async def _on_change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        label = request.transition.label or TRANSITIONS.get(request.transition.id, "")
        response.success = label in TRANSITIONS.values() and await self.transition(label)
        return response

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002 - rclpy's signature
        """Do what the transition asks for; called in a thread of its own, as those below."""
        return self._do("configure", self._steps.configure())

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        done = self._do("activate", self._steps.activate())
        return super().on_activate(state) if done is TransitionCallbackReturn.SUCCESS else done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        done = self._do("deactivate", self._steps.deactivate())
        return super().on_deactivate(state) if done is TransitionCallbackReturn.SUCCESS else done

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """See `on_configure`."""
        return self._do("cleanup", self._steps.cleanup())

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """See `on_configure`."""
        return self._do("shutdown", self._steps.recover())

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """See `on_configure`; with success the node is unconfigured again."""
        trouble = self.trouble
        done = self._do("recovery", self._steps.recover())
        self.trouble = trouble
        return done

    def _do(self, name: str, step: Coroutine[Any, Any, None]) -> TransitionCallbackReturn:
        try:
            asyncio.run_coroutine_threadsafe(step, self._loop).result()
        except (FleetMarketError, TimeoutError) as error:
            self.trouble = error
            log.error("%s: %s", name, error)  # noqa: TRY400 - the message is for a user
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.trouble = error
            log.exception("%s", name)
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

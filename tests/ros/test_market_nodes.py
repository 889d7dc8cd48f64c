"""The market as ROS users see it: a real market daemon, the robot's node, the gateway, and the oracle's view."""

import asyncio
import contextlib
import logging
import math
import subprocess
import sys
from dataclasses import fields

import pytest
import toy_driver
from action_msgs.msg import GoalStatus
from fleet_market_msgs import action, msg, srv
from market_process import Daemon
from rclpy.action import ActionClient
from robot_stage import at, stage, until

from fleet_market.adapters.stores import open_reader
from fleet_market.daemons.oracle import Oracle, OracleConfig, run_oracle
from fleet_market.ids import PartyName, ZoneId
from fleet_market.oracle.terms import FairQuote
from fleet_market.protocol.messages import StatusReply, StatusRequest
from fleet_market_ros import oracle_view, qos
from fleet_market_ros.market_gateway import Gateway
from fleet_market_ros.ros import Ros

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]

FEE_UC = 300_001


@pytest.fixture
async def robot(files, mqtt_broker, request):
    """A market that runs, and a robot's node that bids in it."""
    fleet = (files / "fleet.yaml").read_text()
    daemon = Daemon(files, mqtt_broker)
    daemon.fleet.write_text(fleet)
    with daemon:
        await asyncio.to_thread(daemon.wait_ready)
        more = getattr(request, "param", {})
        async with stage(files, mqtt_broker, autostart=True, **more) as it:
            await until(lambda: it.robot.node.label == "active")
            yield it


@pytest.fixture
async def gateway(robot, mqtt_broker):
    """The gateway of customer ann."""
    arguments = [
        "--ros-args",
        "-r",
        "__ns:=/ann",
        "-p",
        f"mqtt:={at(mqtt_broker)}",
        "-p",
        "customer:=ann",
        "-p",
        "timeout_s:=60.0",
    ]
    async with Ros("market_gateway", arguments) as ros:
        node = Gateway(ros)
        serving = asyncio.create_task(node.serve())
        await until(lambda: node.customer.online)
        yield node
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def task(name, **more):
    wanted = msg.Task(id=name, pickup="dock", dropoff="shelf", payload_kg=2.0, max_price_uc=50_000_000, **more)
    wanted.deadline.sec = 300
    return wanted


async def future(it, calling):
    done, loop = asyncio.get_running_loop().create_future(), asyncio.get_running_loop()
    calling.add_done_callback(lambda c: loop.call_soon_threadsafe(done.set_result, c.result()))
    async with asyncio.timeout(120):
        return await done


async def send(it, wanted, feedback=lambda _f: None):
    client = ActionClient(it.tools.node, action.ExecuteTask, "/ann/execute_task")
    assert await asyncio.to_thread(client.wait_for_server, 60.0)
    goal = action.ExecuteTask.Goal(task=wanted)
    return await future(it, client.send_goal_async(goal, feedback_callback=lambda f: feedback(f.feedback)))


def hear(it):
    """Listen to all that the robot's node tells."""
    heard = {"state": [], "ask": [], "contract": [], "settled": []}
    kinds = {"state": msg.MarketState, "ask": msg.Ask, "contract": msg.Contract, "settled": msg.Settlement}
    for name, kind in kinds.items():
        it.tools.subscribe(kind, f"/r1/market/{name}", heard[name].append)
    return heard


async def test_a_goal_is_posted_driven_and_settled_and_the_robot_tells_every_step(robot, gateway):
    heard, steps = hear(robot), []
    await until(lambda: heard["state"])
    goal = await send(robot, task("t1"), lambda f: steps.append((f.step, f.robot)))
    assert goal.accepted
    answer = await future(robot, goal.get_result_async())
    result, kind = answer.result, action.ExecuteTask.Result
    assert (answer.status, result.result, result.robot) == (GoalStatus.STATUS_SUCCEEDED, kind.SETTLED, "r1")
    assert 0 < result.price_uc <= 50_000_000
    assert result.finished.sec > 0
    assert math.isnan(result.measured_j), "this robot has no meter"
    assert [one[0] for one in proved(result)] == [msg.Evidence.PICKUP, msg.Evidence.DROPOFF]
    feedback = action.ExecuteTask.Feedback
    assert [step for step, _ in steps] == sorted(step for step, _ in steps)
    at_work = (feedback.TO_PICKUP, feedback.LOADING, feedback.TO_DROPOFF, feedback.UNLOADING)
    assert {(step, "r1") for step in at_work} <= set(steps)
    await until(lambda: heard["settled"])
    (settlement,) = heard["settled"]
    assert (settlement.task, settlement.robot, settlement.price_uc) == ("t1", "r1", result.price_uc)
    assert settlement.expected_j > 0
    assert math.isnan(settlement.measured_j)
    (ask,) = [one for one in heard["ask"] if one.task == "t1"][:1]
    assert not ask.declined
    assert sum(getattr(ask.parts, name) for name in ask.parts.get_fields_and_field_types()) == ask.ask_uc > 0
    contract = msg.Contract
    phases = [one.phase for one in heard["contract"]]
    assert phases == sorted(phases)
    assert {contract.PHASE_TO_PICKUP, contract.PHASE_TO_DROPOFF} <= set(phases)
    assert [one.aboard for one in heard["contract"]] == sorted(one.aboard for one in heard["contract"])
    await until(lambda: heard["state"][-1].settled == 1)
    assert heard["state"][-1].earned_uc == result.price_uc
    assert heard["state"][-1].market == msg.MarketState.MARKET_OPEN


def proved(result):
    """Return the steps that a result proves, each with its place and whether the load was weighed."""
    told = [(one.kind, one.pose.pose.position.x, one.pose.pose.position.y, one.weighed) for one in result.evidence]
    assert [one.pose.header.frame_id for one in result.evidence] == ["map"] * len(told)
    stamps = [one.pose.header.stamp.sec for one in result.evidence]
    assert stamps == sorted(stamps)
    assert not stamps or 0 < stamps[-1] <= result.finished.sec
    return told


@pytest.mark.parametrize("robot", [{"driver_settings.metered": True, "driver_settings.speed": 2.0}], indirect=True)
async def test_feedback_tells_the_energy_so_far_and_the_result_the_evidence_that_the_market_has_verified(robot, gateway):
    heard, told = hear(robot), []
    goal = await send(robot, task("t1"), lambda f: told.append((f.step, f.energy_so_far_j, f.predicted_rest_j)))
    result = (await future(robot, goal.get_result_async())).result
    kind = msg.Evidence
    view = await gateway.customer.view("t1")
    assert [one[0] for one in proved(result)] == [kind.PICKUP, kind.DROPOFF]
    for (_, x, y, weighed), place in zip(proved(result), (view.pickup, view.dropoff), strict=True):
        assert math.hypot(x - place.x, y - place.y) <= place.radius_m + 0.1
        assert weighed
    taken = [one.payload_after_kg - one.payload_before_kg for one in result.evidence]
    assert taken == pytest.approx([2.0, -2.0])
    at_work = [(so_far, rest) for step, so_far, rest in told if step >= action.ExecuteTask.Feedback.QUEUED]
    metered = [(so_far, rest) for so_far, rest in at_work if not math.isnan(so_far)]
    figures = [so_far for so_far, _ in metered]
    assert figures == sorted(figures)
    assert 0 < figures[-1] <= result.measured_j
    expected = view.predicted_energy_j
    assert all(rest == pytest.approx(max(0.0, expected - so_far)) for so_far, rest in metered)
    await until(lambda: heard["settled"])
    assert heard["settled"][0].measured_j == pytest.approx(result.measured_j)


async def test_a_cancelled_goal_takes_the_task_back(robot, gateway):
    robot.robot.daemon.agent.situation.bidding = False
    goal = await send(robot, task("t1"))
    cancelling = await future(robot, goal.cancel_goal_async())
    assert len(cancelling.goals_canceling) == 1
    answer = await future(robot, goal.get_result_async())
    assert (answer.status, answer.result.result) == (GoalStatus.STATUS_CANCELED, action.ExecuteTask.Result.CANCELLED)
    assert (await gateway.customer.view("t1")).state == "cancelled"


async def test_a_goal_waits_for_a_market_that_is_away(robot, gateway, mqtt_broker):
    gateway.customer._requester._timeout_s = 1.0
    mqtt_broker.kill()
    goal = await send(robot, task("t1"))
    fetching = goal.get_result_async()
    with pytest.raises(TimeoutError):
        await until(fetching.done, within_s=3.0)
    mqtt_broker.start()
    answer = await future(robot, fetching)
    assert (answer.status, answer.result.result) == (GoalStatus.STATUS_SUCCEEDED, action.ExecuteTask.Result.SETTLED)


async def test_a_goal_that_is_cancelled_before_the_market_answers_ends_with_the_markets_word(robot, gateway, monkeypatch):
    robot.robot.daemon.agent.situation.bidding = False
    really, lost = gateway.customer.ask, asyncio.Event()

    async def ask(kind, body, answer):
        reply = await really(kind, body, answer)
        if kind == "order":  # the market has taken it, and its answer is lost
            lost.set()
            return None
        return reply

    monkeypatch.setattr(gateway.customer, "ask", ask)
    goal = await send(robot, task("t1"))
    await lost.wait()
    await future(robot, goal.cancel_goal_async())
    answer = await future(robot, goal.get_result_async())
    assert (answer.status, answer.result.result) == (GoalStatus.STATUS_CANCELED, action.ExecuteTask.Result.CANCELLED)
    assert (await gateway.customer.view("t1")).state == "cancelled"


async def test_a_goal_of_which_the_market_never_heard_is_cancelled_at_once(robot, gateway):
    gateway.customer._requester = None
    goal = await send(robot, task("t1"))
    await future(robot, goal.cancel_goal_async())
    answer = await future(robot, goal.get_result_async())
    assert (answer.status, answer.result.result) == (GoalStatus.STATUS_CANCELED, action.ExecuteTask.Result.CANCELLED)
    assert answer.result.note == "taken back before the market took it"


async def test_who_comes_after_a_robot_has_left_hears_that_it_has(robot):
    heard = hear(robot)
    await until(lambda: heard["state"] and heard["state"][-1].bidding)
    assert await robot.change("deactivate")
    await until(lambda: not heard["state"][-1].connected)
    late = []
    robot.tools.subscribe(msg.MarketState, "/r1/market/state", late.append, qos.STATE)
    await until(lambda: late)
    assert (late[0].connected, late[0].bidding, late[0].robot) == (False, False, "r1")


async def test_a_goal_that_makes_no_sense_is_aborted_with_what_to_mend(robot, gateway):
    wanted = task("t1")
    wanted.pickup = "nowhere"
    answer = await future(robot, (await send(robot, wanted)).get_result_async())
    assert (answer.status, answer.result.result) == (GoalStatus.STATUS_ABORTED, action.ExecuteTask.Result.REFUSED)
    (error,) = answer.result.errors
    assert (error.field, error.value) == ("pickup", "nowhere")
    assert "known names: dock, shelf" in error.mend
    wanted = task("t 2")
    wanted.deadline.sec, wanted.payload_kg = 0, math.nan
    answer = await future(robot, (await send(robot, wanted)).get_result_async())
    assert {error.field for error in answer.result.errors} == {"order", "payload_kg", "deadline_s"}


async def test_services_quote_post_and_cancel(robot, gateway):
    quote = await robot.call(srv.QuoteTask, "/ann/quote_task", srv.QuoteTask.Request(task=task("")))
    assert (quote.result, quote.robots, quote.has_second) == (srv.QuoteTask.Response.QUOTED, 1, False)
    assert quote.best_ask_uc > 0
    too_heavy = task("")
    too_heavy.payload_kg = 500.0
    quote = await robot.call(srv.QuoteTask, "/ann/quote_task", srv.QuoteTask.Request(task=too_heavy))
    assert (quote.result, quote.declines[0][:12]) == (srv.QuoteTask.Response.NO_ASK, "r1: payload,")
    robot.robot.daemon.agent.situation.bidding = False
    kind, request = srv.PostTask.Response, srv.PostTask.Request(task=task("t1"))
    assert (await robot.call(srv.PostTask, "/ann/post_task", request)).result == kind.ACCEPTED
    assert (await robot.call(srv.PostTask, "/ann/post_task", request)).result == kind.EXISTS
    request.task.max_price_uc = 0
    refused = await robot.call(srv.PostTask, "/ann/post_task", request)
    assert (refused.result, refused.errors[0].field) == (kind.REFUSED, "max_price_uc")
    cancel = srv.CancelTask.Response
    answer = await robot.call(srv.CancelTask, "/ann/cancel_task", srv.CancelTask.Request(task="t1"))
    assert answer.result == cancel.CANCELLED
    answer = await robot.call(srv.CancelTask, "/ann/cancel_task", srv.CancelTask.Request(task="t9"))
    assert (answer.result, answer.errors[0].field) == (cancel.REFUSED, "order")


async def test_the_gateway_says_that_the_market_does_not_answer(robot, gateway, mqtt_broker):
    gateway.customer._requester._timeout_s = 1.0
    mqtt_broker.kill()
    answer = await robot.call(srv.CancelTask, "/ann/cancel_task", srv.CancelTask.Request(task="t1"))
    assert answer.result == srv.CancelTask.Response.NO_ANSWER


async def test_a_robot_prices_a_task_without_bidding(robot):
    heard = hear(robot)
    answer = await robot.call(srv.PriceTask, "/r1/market/price_task", srv.PriceTask.Request(task=task("")))
    assert answer.ok
    assert not answer.ask.declined
    assert answer.ask.ask_uc > 0
    far = task("")
    far.deadline.sec = 1
    answer = await robot.call(srv.PriceTask, "/r1/market/price_task", srv.PriceTask.Request(task=far))
    assert (answer.ask.declined, answer.ask.reason) == (True, msg.Ask.REASON_DEADLINE)
    lost = task("")
    lost.dropoff = "moon"
    answer = await robot.call(srv.PriceTask, "/r1/market/price_task", srv.PriceTask.Request(task=lost))
    assert (answer.ok, answer.errors[0].field) == (False, "dropoff")
    assert not heard["ask"]
    assert not robot.robot.daemon.agent.tasks


async def test_a_robot_that_does_not_bid_declines_and_bids_again(robot, gateway):
    heard = hear(robot)
    answer = await robot.call(srv.SetBidding, "/r1/market/set_bidding", srv.SetBidding.Request(bidding=False))
    assert (answer.success, answer.contracts) == (True, 0)
    assert robot.robot.node.get_parameter("bidding").value is False
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t1")))
    await until(lambda: heard["ask"])
    assert (heard["ask"][-1].reason, heard["ask"][-1].detail) == (msg.Ask.REASON_BUSY, "does not bid now")
    await robot.call(srv.SetBidding, "/r1/market/set_bidding", srv.SetBidding.Request(bidding=True))
    await until(lambda: robot.robot.daemon.agent.tasks)


async def test_deactivated_while_it_works_it_finishes_first_and_takes_nothing_more(robot, gateway):
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t1")))
    await until(lambda: any(one.aboard for one in robot.robot.daemon.agent.tasks))
    base = toy_driver.made[-1]
    leaving = asyncio.create_task(robot.change("deactivate"))
    await until(lambda: robot.robot.node.label == "deactivating")
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t2")))
    assert await leaving
    assert await robot.state() == "inactive"
    assert (await gateway.customer.view("t1")).state == "settled"
    assert (await gateway.customer.view("t2")).state == "open"
    assert base.ticking is None
    assert await robot.change("activate")
    await until(lambda: [one.order for one in robot.robot.daemon.agent.tasks] == ["t2"])


async def test_a_deactivation_that_takes_too_long_gives_the_task_back(robot, gateway, caplog):
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t1")))
    await until(lambda: robot.robot.daemon.agent.tasks)
    toy_driver.made[-1].stuck = True
    await robot.set("deactivate_timeout_s", 0.5)
    assert await robot.change("deactivate")
    assert "not finished in time; orders that go back to the market: t1" in caplog.text
    assert toy_driver.made[-1].ticking is None


class Told:
    """Knows one price, where an oracle that has just begun knows none."""

    def begin(self, observation, now_ns):
        pass

    def band(self, question, now_ns, at_ns=None, confidence=0.8):
        more = dict.fromkeys(field.name for field in fields(FairQuote))
        known = {"low_uc": 3_000_000, "high_uc": 5_000_000, "confidence": confidence, "samples": 40, "age_s": 2.0}
        reasons = {"coverage": 0.75, "thin": False, "reasons": ("forty settlements like it",), "unknown": ("tomorrow",)}
        return FairQuote(**more | known | reasons)


@pytest.fixture
async def oracle(robot, mqtt_broker, caplog):
    """The oracle's view of customer ann; an oracle that has just begun, and `sib`, which knows a price and asks a fee."""
    caplog.set_level(logging.INFO)
    arguments = [
        "--ros-args",
        "-r",
        "__ns:=/eye",
        "-p",
        f"mqtt:={at(mqtt_broker)}",
        "-p",
        "customer:=ann",
        "-p",
        "timeout_s:=60.0",
    ]
    where = mqtt_broker.host, mqtt_broker.port
    async with Ros("oracle_view", arguments) as ros:
        node, sib = oracle_view.View(ros), Oracle(OracleConfig(*where, name=PartyName("sib"), fee_uc=FEE_UC), Told())
        running = (node.serve(), run_oracle(OracleConfig(*where)), sib.run())
        serving = [asyncio.create_task(one) for one in running]
        await until(lambda: node.customer.online and "oracle_view" in {r.name for r in caplog.records if r.msg == "READY"})
        while len((await node.customer.ask("status", StatusRequest(what="oracles"), StatusReply)).oracles) < 2:
            assert not any(one.done() for one in serving)
        yield node
        for one in serving:
            one.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def money(files):
    """Return what each account has, and what it has on hold, from the market's own books."""
    with open_reader(str(files / "market.db"), ZoneId("main")) as reader:
        return {name: (b.available_uc, b.debits_pending) for name, b in reader.balances().items()}


async def band_for(robot, **wanted):
    wanted = {"pickup": "dock", "dropoff": "shelf", "payload_kg": 2.0, "max_fee_uc": 200_000, **wanted}
    return await robot.call(srv.QuoteBand, "/eye/quote_band", srv.QuoteBand.Request(**wanted))


async def test_the_oracle_view_publishes_bands(robot, gateway, oracle):
    bands = []
    robot.tools.subscribe(msg.FairBand, "/eye/market/band", bands.append)
    await until(lambda: oracle._bands.get_subscription_count() == 1)
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t1")))
    await until(lambda: bands)
    band = bands[0]
    assert (band.task, band.sold, band.inside, band.has_second_best) == ("t1", True, True, False)
    assert 0 < band.low_uc <= band.price_uc <= band.high_uc


async def test_a_quote_of_a_band_is_paid_for_once_and_a_preview_is_free(robot, gateway, oracle, files):
    robot.robot.daemon.agent.situation.bidding = False
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t1")))
    kind, before = srv.QuoteBand.Response, money(files)
    coarse = await band_for(robot, oracle="sib", preview=True, max_fee_uc=0)
    assert (coarse.result, coarse.fee_uc, list(coarse.reasons)) == (kind.PREVIEW, 0, [])
    assert coarse.low_uc < 3_000_000
    assert coarse.high_uc > 5_000_000
    blind = await band_for(robot)
    assert (blind.result, blind.oracle, blind.fee_uc) == (kind.NO_QUOTE, "oracle", 0)
    assert blind.note == "the oracle cannot tell"
    assert money(files) == before
    order = {"oracle": "sib", "order": "t1", "pickup": "", "dropoff": "", "max_fee_uc": FEE_UC}
    fine = await band_for(robot, id="q1", confidence=0.9, **order)
    assert (fine.result, fine.id, fine.oracle, list(fine.errors)) == (kind.QUOTED, "q1", "sib", [])
    assert (fine.low_uc, fine.high_uc, fine.confidence, fine.thin) == (3_000_000, 5_000_000, 0.9, False)
    assert (list(fine.reasons), list(fine.unknown)) == (["forty settlements like it"], ["tomorrow"])
    assert (fine.coverage, fine.age_s, fine.root, fine.evidence_records) == (0.75, 2.0, "", 0)
    assert math.isnan(fine.evidence_age_s)
    assert fine.expires.sec > 0
    assert (fine.fee_uc, fine.robots_uc) == (FEE_UC, 0)
    paid, ann = money(files), "customer:ann"
    assert (before[ann][0] - paid[ann][0], before[ann][1]) == (FEE_UC, paid[ann][1])
    assert sum(free for free, _ in paid.values()) == sum(free for free, _ in before.values())
    again = await band_for(robot, id="q1", confidence=0.9, **order)
    assert repr(again) == repr(fine)
    assert money(files) == paid, "the same quote is not paid again"
    later = srv.QuoteBand.Request().later
    later.sec = 300
    then = await band_for(robot, oracle="sib", later=later, max_fee_uc=1_000_000)
    assert (then.result, then.id[:2], then.confidence) == (kind.QUOTED, "q-", 0.8)
    assert then.fee_uc > FEE_UC, "later costs more"
    assert paid[ann][0] - money(files)[ann][0] == then.fee_uc


async def test_what_cannot_be_quoted_says_why_and_costs_nothing(robot, gateway, oracle, files, mqtt_broker):
    robot.robot.daemon.agent.situation.bidding = False
    kind, before = srv.QuoteBand.Response, money(files)

    async def wrong(**wanted):
        answer = await band_for(robot, **wanted)
        assert (answer.result, answer.fee_uc, answer.high_uc) == (kind.REFUSED, 0, 0)
        return {error.field: error for error in answer.errors}

    assert "no such oracle sells here" in (await wrong(oracle="nobody"))["oracle"].mend
    assert (await wrong(order="t9"))["order"].mend == "unknown"
    assert "it charges 0.1 credits" in (await wrong(max_fee_uc=99_999))["max_fee"].mend
    assert "known names: dock, shelf" in (await wrong(pickup="moon"))["pickup"].mend
    assert set(await wrong(pickup="", dropoff="")) == {"pickup", "dropoff"}
    assert set(await wrong(payload_kg=math.nan, confidence=0.99, max_fee_uc=-1)) == {
        "payload_kg",
        "confidence",
        "max_fee_uc",
    }
    await robot.call(srv.PostTask, "/ann/post_task", srv.PostTask.Request(task=task("t1")))
    await robot.call(srv.CancelTask, "/ann/cancel_task", srv.CancelTask.Request(task="t1"))
    assert (await wrong(order="t1"))["order"].mend == "it is over: cancelled"
    after = money(files)
    assert {name: after[name] for name in before} == before
    oracle.customer._requester._timeout_s = 1.0
    mqtt_broker.kill()
    assert (await band_for(robot)).result == kind.NO_ANSWER


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("customer:=Ann", "parameters: customer was 'Ann': use 1 to 64 lower-case letters"),
        ("mqtt:=broker.example:8883", "broker.example"),
    ],
)
@pytest.mark.parametrize("name", ["market_gateway", "oracle_view"])
def test_a_node_that_cannot_serve_says_why_in_one_line(domain, name, given, says):
    command = [sys.executable, "-m", f"fleet_market_ros.{name}", "--ros-args", "-p", given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["market_gateway", "oracle_view"])
def test_without_the_interfaces_a_node_that_needs_them_says_how_to_mend_it(domain, name):
    code = (
        "import sys; sys.modules['fleet_market_msgs'] = None; sys.argv = ['x'];"
        f"import fleet_market_ros.{name} as node; node.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "fleet_market_msgs cannot be used" in done.stderr
    assert "build it with `make ros`" in done.stderr
    assert "Traceback" not in done.stderr

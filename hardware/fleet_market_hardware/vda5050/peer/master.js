// A master control of vda-5050-lib: a JSON line {order} or {instant} in, JSON lines about what becomes of it out.
const { MasterController } = require("vda-5050-lib");
const env = process.env;
const say = (what) => console.log(JSON.stringify(what));
const master = new MasterController(
  { interfaceName: env.INTERFACE || "uagv", vdaVersion: env.VERSION || "2.0.0", transport: { brokerUrl: `mqtt://127.0.0.1:${env.PORT}` } },
  {},
);
const vehicle = { manufacturer: env.MANUFACTURER, serialNumber: env.SERIAL };
const assign = (order) => master.assignOrder(vehicle, order, {
  onOrderProcessed: (error, byCancelation, active, { order: { orderId } }) => say({ processed: orderId, error, byCancelation, active }),
  onNodeTraversed: (node) => say({ node: node.nodeId }),
  onActionStateChanged: (state, error, action) => say({ action: action.actionType, status: state.actionStatus, error }),
});
const instant = (actions) => master.initiateInstantActions(vehicle, { instantActions: actions }, {
  onActionStateChanged: (state, error, action) => say({ instant: action.actionType, status: state.actionStatus, error }),
  onActionError: (error, action) => say({ instant: action.actionType, error }),
});
master.start().then(async () => {
  await master.trackAgvs((_agv, state) => say({ connection: state }));
  say({ up: true });
  require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
    const wish = JSON.parse(line);
    try {
      if (wish.order) say({ assigned: (await assign(wish.order)) !== undefined });
      else await instant(wish.instant);
    } catch (error) { say({ trouble: String(error) }); }
  });
}, (error) => { console.error(error); process.exit(1); });

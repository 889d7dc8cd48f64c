// A virtual vehicle of vda-5050-lib. Settings by environment; it prints "up" when it has said its first state.
const { AgvController, VirtualAgvAdapter } = require("vda-5050-lib");
const env = process.env;
const number = (name, usual) => (env[name] === undefined ? usual : Number(env[name]));
const controller = new AgvController(
  { manufacturer: env.MANUFACTURER || "siemens", serialNumber: env.SERIAL },
  {
    interfaceName: env.INTERFACE || "uagv",
    vdaVersion: env.VERSION || "2.0.0",
    transport: { brokerUrl: `mqtt://127.0.0.1:${env.PORT}`, heartbeat: number("KEEPALIVE", 5), reconnectPeriod: 200 },
  },
  {
    agvAdapterType: VirtualAgvAdapter,
    publishStateInterval: number("STATE_MS", 1000),
    publishVisualizationInterval: number("PLACE_MS", 100),
  },
  {
    initialPosition: {
      mapId: env.MAP || "local", x: number("X", 0), y: number("Y", 0), theta: number("THETA", 0), lastNodeId: "dock",
    },
    vehicleSpeed: number("SPEED", 1),
    initialBatteryCharge: number("CHARGE", 90),
    batteryMaxReach: number("REACH", 20000),
    fullBatteryChargeTime: number("CHARGE_H", 1),
    lowBatteryChargeThreshold: number("LOW", 1),
    tickRate: number("TICKS", 20),
    timeLapse: number("LAPSE", 1),
  },
);
controller.start().then(() => console.log("up"), (error) => { console.error(error); process.exit(1); });
process.on("SIGTERM", () => controller.stop().then(() => process.exit(0)));

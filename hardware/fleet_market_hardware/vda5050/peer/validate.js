// Judges messages by the compiled validators of vda-5050-lib: a JSON line {version, topic, message} in, "ok" or why not out.
const path = require("path");
const folder = path.join(path.dirname(require.resolve("vda-5050-lib/package.json")), "common");
const sets = { "1.1": require(path.join(folder, "vda-5050-validators-1.1.js")), "2.0": require(path.join(folder, "vda-5050-validators-2.0.js")) };
const name = (topic) => `validate${topic[0].toUpperCase()}${topic.slice(1)}`;
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { version, topic, message } = JSON.parse(line);
  const validate = sets[version][name(topic)];
  if (validate === undefined) return console.log(`no validator for ${topic} ${version}`);
  console.log(validate(message) ? "ok" : JSON.stringify(validate.errors));
});

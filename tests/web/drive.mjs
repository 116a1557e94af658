// Whole sequences and steps of frozen models, as asked for on standard input: {module, jobs: [{file, xs, context, steps,
// batch, lengths, stream}]}; on standard output what came of each, or its error.
import { readFileSync } from "node:fs";

const { script, module, jobs } = JSON.parse(readFileSync(0, "utf8"));
const { Elman } = await import(script);
const elman = await Elman.load(readFileSync(module));
const numbers = (text) => new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer);
const text = (values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");

function done({ file, xs, context, ...more }) {
  const model = elman.model(readFileSync(file)), { steps, batch, stream } = more;
  const given = xs.map(numbers), constant = context.map(numbers);
  let y, state;
  if (stream) {
    const rows = model.stream(batch), found = model.outputs.map((a) => new Float32Array(steps * batch * a.width));
    if (constant.length) rows.context(...constant);
    for (let t = 0; t < steps; ++t) {
      const at = (a) => t * batch * a.width;
      const made = [rows.step(...given.map((x, i) => x.subarray(at(model.inputs[i]), at(model.inputs[i]) + batch * model.inputs[i].width)))].flat();
      made.forEach((values, i) => found[i].set(values, at(model.outputs[i])));
    }
    [y, state] = [found, rows.state];
    rows.close();
  } else ({ y, state } = model.run(given, { ...more, context: constant }));
  model.close();
  return { y: y.map(text), state: state.map(text) };
}

console.log(JSON.stringify(jobs.map((job) => {
  try { return done(job); } catch (error) { return { error: error.message }; }
})));

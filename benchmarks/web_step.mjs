// For web_step.py: how long a step takes, in microseconds, and the last y of all steps.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { script, module, file, onnx, ort, x, H, rounds } = JSON.parse(readFileSync(0, "utf8"));
const given = Float32Array.from(x), COUNT = 3000;

async function least(once) {
  let best = Infinity;
  for (let round = 0; round < rounds; ++round) {
    const begin = performance.now();
    await once(COUNT);
    best = Math.min(best, ((performance.now() - begin) / COUNT) * 1e3);
  }
  return best;
}

async function ours() {
  const { Elman } = await import(script);
  const elman = await Elman.load(readFileSync(module)), stream = elman.model(readFileSync(file)).stream(1), one = given.slice(0, H);
  let y;
  for (let t = 0; t * H < given.length; ++t) y = stream.step(given.slice(t * H, t * H + H));
  const step = await least((count) => { for (let i = 0; i < count; ++i) stream.step(one); });
  const call = await least((count) => { for (let i = 0; i < count; ++i) elman.core.elman_step_all(stream.handle, stream.x.table, stream.y.table); });
  return { step_us: step, call_us: call, y: Array.from(y) };
}

async function theirs() {
  const { default: web } = await import(pathToFileURL(`${ort}/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs`));
  web.env.wasm.numThreads = 1;
  const session = await web.InferenceSession.create(readFileSync(onnx)), shape = [1, 1, H];
  const tensor = (values) => new web.Tensor("float32", values, shape);
  let state = { h: tensor(new Float32Array(H)), c: tensor(new Float32Array(H)) }, y;
  const step = async (values) => {
    const made = await session.run({ x: tensor(values), ...state });
    state = { h: made.h_next, c: made.c_next };
    return made.y.data;
  };
  for (let t = 0; t * H < given.length; ++t) y = await step(given.slice(t * H, t * H + H));
  const one = given.slice(0, H), last = Array.from(y);
  return { step_us: await least(async (count) => { for (let i = 0; i < count; ++i) await step(one); }), y: last };
}

console.log(JSON.stringify(ort ? await theirs() : await ours()));

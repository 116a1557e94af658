// Frozen models (docs/browser.md) as WebAssembly, in a browser and in node: the calls of csrc/elman.h.
//   const elman = await Elman.load();                     // the module beside this file, or the bytes or the address of one
//   const model = elman.model(bytes);                     // of a frozen file; an Error says what is wrong with it
//   const stream = model.stream(1), y = stream.step(x);   // flat (batch, width); tokens are whole numbers
//   const { y: [ys], state } = model.run([xs], { steps, batch });      // flat (steps, batch, width)
const TYPES = [Float32Array, Float64Array, BigInt64Array], INT64 = 2, ROLES = ["inputs", "outputs", "states", "contexts"];
const stop = () => { throw new Error("there is not enough memory for the model"); };
const UTF8 = new TextDecoder(), ends = new FinalizationRegistry((end) => end());
// A function of one relaxed instruction: a browser that takes it has products and sums in one.
const RELAXED = "0 97 115 109 1 0 0 0 1 5 1 96 0 1 123 3 2 1 0 10 15 1 13 0 65 1 253 15 65 2 253 15 253 128 2 11";

export class Elman {
  static file() { return WebAssembly.validate(Uint8Array.from(RELAXED.split(" "))) ? "elman_relaxed.wasm" : "elman.wasm"; }
  static async load(source = new URL(Elman.file(), import.meta.url)) {
    if (source.protocol === "file:") source = await (await import("node:fs/promises")).readFile(source);
    else if (source instanceof URL || typeof source === "string") source = await (await fetch(source)).arrayBuffer();
    const call = (_, name) => (name === "proc_exit" ? stop : () => 52);  // of a system: there is none
    const system = new Proxy({}, { get: () => new Proxy({}, { get: call }) });
    const { exports } = (await WebAssembly.instantiate(source, system)).instance;
    exports._initialize();
    return Object.assign(new Elman(), { core: exports, model: (file) => new Model(exports, file) });
  }
}

class Memory {  // of the module: taken piece by piece, given back together
  constructor(core) { this.core = core, this.pieces = []; }
  get bytes() { return new Uint8Array(this.core.memory.buffer); } get words() { return new Uint32Array(this.core.memory.buffer); }
  text(at) { return at ? UTF8.decode(this.bytes.subarray(at, this.bytes.indexOf(0, at))) : null; }
  check(status) { if (status) throw new Error(this.text(this.core.elman_error())); }
  free() { this.pieces.splice(0).forEach((at) => this.core.free(at)); }
  until(end) { ends.register(this, end, this), this.close = () => { ends.unregister(this), end(), this.close = () => {}; }; }
  take(size) { return this.pieces[this.pieces.push(this.core.malloc(size + 8) || stop()) - 1]; }
  table(words, at = this.take(4 * words.length)) { return this.words.set(words, at / 4), at; }
  array({ type, width }, rows, at) { return new TYPES[type](this.core.memory.buffer, at, width * rows); }
  views(arrays, rows, places) { return arrays.map((a, i) => this.array(a, rows(a), places[i])); }
  get(...at) { return this.views(...at).map((view) => view.slice()); } put(arrays, rows, places, values) { this.fill(arrays, this.views(arrays, rows, places), values); }
  fill(arrays, views, values) {
    for (let i = 0; i < views.length; ++i) {
      const view = views[i], given = values[i]?.length;
      if (given !== view.length) throw new Error(`${arrays[i].name} has ${given ?? "no"} numbers; expected ${view.length}`);
      if (arrays[i].type !== INT64) view.set(values[i]); else for (let k = 0; k < given; ++k) view[k] = BigInt(values[i][k]);
    }
  }
  laid(arrays, rows, values) {
    const places = arrays.map((a) => this.take(a.width * rows(a) * TYPES[a.type].BYTES_PER_ELEMENT));
    return values && this.put(arrays, rows, places, values), { arrays, places, table: this.table(places), views: [] };
  }
}

class Model extends Memory {
  constructor(core, file) {
    const at = super(core).take(file.length), place = this.take(32);
    this.bytes.set(file, at);
    const status = core.elman_load_memory(at, file.length, place), handle = this.handle = this.words[place / 4];
    if (!status) ROLES.forEach((name, role) => this[name] = this.described(role, place));
    this.free(), this.check(status), this.until(() => core.elman_free(handle)), this.canStep = core.elman_can_step(handle) === 1;
  }
  described(role, place) {
    return Array.from({ length: Number(this.core.elman_count(this.handle, role)) }, (_, i) => {
      this.core.elman_describe(this.handle, role, BigInt(i), place);
      const [name, type, width, , dims, sizes, whole] = this.words.subarray(place / 4), shape = this.words.subarray(sizes / 4);
      return { name: this.text(name), type, width, shape: Array.from({ length: dims }, (_, k) => shape[2 * k]), whole: whole === 1 };
    });
  }
  said(key, name = new TextEncoder().encode(`${key}\0`), at = this.take(name.length)) {  // "task", ...; null: nothing
    try { return this.bytes.set(name, at), this.text(this.core.elman_text(this.handle, at)); } finally { this.free(); }
  }
  stream(batch = 1) { return new Stream(this, batch); }
  run(xs, { steps, batch = 1, lengths, context = [], state }) {  // one flat array for each input, context and state
    const row = () => batch, of = (a) => (a.whole ? batch : steps * batch);
    try {
      const x = this.laid(this.inputs, of, xs), y = this.laid(this.outputs, of), final = this.laid(this.states, row);
      const start = state ? this.laid(this.states, row, state).table : 0, given = this.laid(this.contexts, row, context).table;
      const last = lengths ? this.laid([{ name: "lengths", type: INT64, width: 1 }], row, [lengths]).places[0] : 0;
      const sequence = this.table([steps, 0, batch, 0, last, x.table, y.table, given, start, final.table, 1, 0]);
      this.check(this.core.elman_run(this.handle, sequence));
      return { y: this.get(this.outputs, of, y.places), state: this.get(this.states, row, final.places) };
    } finally { this.free(); }
  }
}

class Stream extends Memory {
  constructor(model, batch) {
    const place = super(model.core).take(8), { core, pieces } = this, rows = () => batch;
    const status = core.elman_open(model.handle, BigInt(batch), place), handle = this.words[place / 4];
    this.free(), this.check(status), this.until(() => (core.elman_close(handle), pieces.forEach((at) => core.free(at))));
    [this.x, this.y, this.s, this.c] = ROLES.map((role) => this.laid(model[role], rows)), Object.assign(this, { model, handle, rows });
  }
  seen(s) { return s.views[0]?.buffer === this.core.memory.buffer ? s.views : (s.views = this.views(s.arrays, this.rows, s.places)); }
  step(...xs) {  // one y, or a list of them; the memory may have grown before and behind
    this.fill(this.x.arrays, this.seen(this.x), xs), this.check(this.core.elman_step_all(this.handle, this.x.table, this.y.table));
    return (xs = this.seen(this.y)).length === 1 ? xs[0].slice() : xs.map((y) => y.slice());
  }
  states(call) { this.s.places.forEach((at, i) => this.check(call(this.handle, BigInt(i), at))); }
  get state() { return this.states(this.core.elman_get_state), this.get(this.model.states, this.rows, this.s.places); }
  set state(values) { this.put(this.model.states, this.rows, this.s.places, values), this.states(this.core.elman_set_state); }
  context(...values) { this.put(this.model.contexts, this.rows, this.c.places, values), this.check(this.core.elman_set_context(this.handle, this.c.table)); }
  reset() { this.check(this.core.elman_reset(this.handle, 0)); }
}

// What a model of music composes, event by event or step by step, and the page that draws and plays it.

import { settings } from "./texts.js";

const START = 0, END = 1, FIRST = 2, LOW = 21, FIRST_DRUM = 35, HANGING = 4;

// Numbers from 0 to 1, the same for the same seed (mulberry32).
function drawn(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Where the kinds of events begin; as elman.data.music.events has it.
function places({ keys: [piano, drums], events }) {
  const columns = 88 * piano + 47 * drums, ends = FIRST + columns, waits = ends + 88 * piano;
  const loudness = waits + events.per * (events.clock === "beats" ? 4 : 1);
  return { piano: 88 * piano, ends, waits, loudness, size: loudness + events.velocities };
}

const key = (column, piano) => (column < piano ? { pitch: column + LOW, drum: false } : { pitch: column - piano + FIRST_DRUM, drum: true });

// Events that make sense: a key begins when it does not sound and ends when it does, and behind a velocity comes no other
// one before a note.
function board({ piano, ends, waits, loudness, size }) {
  const allowed = new Float64Array(size).fill(0);
  allowed.fill(-Infinity, 0, FIRST).fill(-Infinity, ends, waits);
  return { allowed, take(event) {
    if (event < FIRST) return;
    if (event < ends) {
      if (event - FIRST < piano) allowed[event] = -Infinity, allowed[ends + event - FIRST] = 0;
      allowed.fill(0, loudness);
    } else if (event < waits) allowed[event] = -Infinity, allowed[FIRST + event - ends] = 0;
    else if (event >= loudness) allowed.fill(-Infinity, loudness);
  } };
}

function chosen(values, temperature, random) {
  const top = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (temperature <= 0) return values.indexOf(top);
  const weights = values.map((value) => Math.exp((value - top) / temperature));
  let left = random() * weights.reduce((a, b) => a + b, 0);
  return Math.max(0, weights.findIndex((weight) => (left -= weight) < 0));
}

// Yields `length` events; temperature 0: always the likeliest.
export function* events(model, codec, { length, temperature, seed = 0 }) {
  const stream = model.stream(1), of = places(codec), { allowed, take } = board(of), random = drawn(seed);
  try {
    for (let event = START, i = 0; i < length; ++i) {
      const logits = Float64Array.from(stream.step([event]), (value, k) => value + allowed[k]);
      yield event = chosen(logits, temperature, random);
      take(event);
    }
  } finally { stream.close(); }
}

// Yields `length` steps, each the columns that sound.
export function* steps(model, codec, { length, temperature, seed = 0 }) {
  const stream = model.stream(1), random = drawn(seed);
  let sounding = new Float32Array(model.inputs[0].width);
  try {
    for (let i = 0; i < length; ++i) {
      sounding = stream.step(sounding).map((logit) => {
        const u = temperature > 0 ? random() : 0.5;
        return logit / (temperature || 1) > Math.log(u / (1 - u)) ? 1 : 0;
      });
      yield Array.from(sounding.keys()).filter((column) => sounding[column]);
    }
  } finally { stream.close(); }
}

// Notes of events: start, end in the units of the clock, pitch, velocity, drum. What never ends is cut.
export function notes_of_events(found, codec) {
  const { piano, ends, waits, loudness } = places(codec), { per, velocities } = codec.events, sounding = new Map(), notes = [];
  let now = 0, velocity = 80;
  const end = (column, step) => {
    const [begun, loud] = sounding.get(column);
    sounding.delete(column);
    notes.push({ start: begun / per, end: Math.max(step, begun + 1) / per, velocity: loud, ...key(column, piano) });
  };
  for (const event of found) {
    if (event >= loudness) velocity = Math.max(1, Math.floor(((event - loudness + 0.5) * 128) / velocities));
    else if (event >= waits) now += event - waits + 1;
    else if (event >= ends) sounding.has(event - ends) && end(event - ends, now);
    else if (event >= FIRST) {
      const column = event - FIRST;
      if (sounding.has(column)) end(column, now);
      sounding.set(column, [now, velocity]);
      if (column >= piano) end(column, now + Math.max(1, Math.floor(per / 4)));
    }
  }
  for (const [column, [begun]] of [...sounding]) end(column, Math.min(Math.max(now, begun + per), begun + HANGING * per));
  return notes.sort((a, b) => a.start - b.start || a.end - b.end || a.pitch - b.pitch);
}

// Notes of steps; a key that sounds at steps in a row is one note.
export function notes_of_steps(rows, codec) {
  const begun = new Map(), notes = [], piano = 88 * codec.keys[0];
  [...rows, []].forEach((row, t) => {
    for (const [column, start] of [...begun])
      if (!row.includes(column)) notes.push({ start: start / codec.resolution, end: t / codec.resolution, velocity: 80, ...key(column, piano) }), begun.delete(column);
    for (const column of row) if (!begun.has(column)) begun.set(column, t);
  });
  return notes.sort((a, b) => a.start - b.start || a.end - b.end || a.pitch - b.pitch);
}

// ---- sound: two tones a note with a soft beginning and end; percussion is noise

const hertz = (pitch) => 440 * 2 ** ((pitch - 69) / 12);

export function sound(context, out, notes, from, seconds) {
  const noise = context.createBuffer(1, context.sampleRate / 4, context.sampleRate), random = drawn(1), data = noise.getChannelData(0);
  for (let i = 0; i < data.length; ++i) data[i] = (2 * random() - 1) * Math.exp((-i / data.length) * 8);
  for (const { start, end, pitch, velocity, drum } of notes) {
    const at = from + start * seconds, until = Math.max(from + end * seconds, at + 0.06), gain = context.createGain();
    gain.connect(out);
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime((velocity / 127) * 0.22, at + 0.012);
    if (drum) {
      const hit = Object.assign(context.createBufferSource(), { buffer: noise });
      hit.playbackRate.value = 0.5 + ((pitch - FIRST_DRUM) / 47) * 2;
      hit.connect(gain), hit.start(at);
      continue;
    }
    gain.gain.exponentialRampToValueAtTime(Math.max(1e-3, (velocity / 127) * 0.07), until);
    gain.gain.linearRampToValueAtTime(0, until + 0.12);
    [["triangle", 1, 1], ["sine", 2, 0.3]].forEach(([type, times, share]) => {
      const tone = Object.assign(context.createOscillator(), { type }), part = context.createGain();
      tone.frequency.value = hertz(pitch) * times, part.gain.value = share;
      tone.connect(part), part.connect(gain), tone.start(at), tone.stop(until + 0.13);
    });
  }
}

// ---- the page

function roll(canvas, notes, at) {
  const style = getComputedStyle(canvas), scale = devicePixelRatio || 1, wide = canvas.clientWidth, tall = canvas.clientHeight;
  canvas.width = wide * scale, canvas.height = tall * scale;
  const pen = canvas.getContext("2d"), end = Math.max(1, ...notes.map((note) => note.end));
  pen.scale(scale, scale);
  const pitches = notes.map((note) => note.pitch), low = Math.min(60, ...pitches) - 2, high = Math.max(72, ...pitches) + 2;
  const row = tall / (high - low + 1), x = (time) => (time / end) * wide, y = (pitch) => (high - pitch) * row;
  pen.fillStyle = style.getPropertyValue("--frame");
  for (let pitch = low; pitch <= high; ++pitch) if (pitch % 12 === 0) pen.fillRect(0, y(pitch) + row, wide, 1);
  for (const { start, end: last, pitch, velocity, drum } of notes) {
    pen.globalAlpha = 0.4 + (0.6 * velocity) / 127;
    pen.fillStyle = start <= at && at < last ? style.getPropertyValue("--red") : style.getPropertyValue(drum ? "--muted" : "--accent");
    pen.beginPath();
    pen.roundRect(x(start), y(pitch), Math.max(2, x(last) - x(start) - 1), Math.max(2, row - 1), Math.min(3, row / 3));
    pen.fill();
  }
  pen.globalAlpha = 1;
  if (at >= 0) pen.fillStyle = style.getPropertyValue("--ink"), pen.fillRect(x(at), 0, 1.5, tall);
}

export function show(model, place) {
  const codec = JSON.parse(model.said("codec")), by_events = codec.events !== null, unit = by_events ? "events" : "steps";
  const seconds = by_events && codec.events.clock === "seconds" ? 1 : 60 / codec.tempo;
  place.innerHTML = `
    <form>
      <label>Temperature <output name="shown"></output>
        <input name="temperature" type="range" min="0" max="1.5" step="0.05" value="0.9"></label>
      <label>Length, in ${unit} <input name="count" type="number" min="1" max="20000" value="${by_events ? 400 : 32 * codec.resolution}"></label>
      <p class="buttons"><button name="go">Compose</button><button name="play" type="button">Play</button><span class="quiet" id="speed" role="status"></span></p>
    </form>
    <canvas id="roll" role="img" aria-label="The notes over time"></canvas>`;
  const form = place.querySelector("form"), canvas = place.querySelector("#roll"), said = place.querySelector("#speed");
  const { temperature, count, shown, play } = form.elements, given = new URLSearchParams(location.hash.slice(1));
  const checked = settings(given, count, temperature);  // of the address; fields put right in silence what they are given
  for (const field of [temperature, count]) if (given.has(field.name)) field.value = given.get(field.name);
  const tell = () => { shown.value = Number(temperature.value).toFixed(2); };
  temperature.addEventListener("input", tell), tell();
  let notes = [], context = null;

  function stop() {
    context?.close(), context = null, play.textContent = "Play";
    roll(canvas, notes, -1);
  }

  function compose() {
    stop();
    const found = [...(by_events ? events : steps)(model, codec, checked())];
    notes = (by_events ? notes_of_events : notes_of_steps)(found, codec);
    const last = Math.max(0, ...notes.map((note) => note.end)) * seconds;
    said.textContent = notes.length ? `${notes.length.toLocaleString("en")} notes, ${last.toFixed(0)} seconds` : "No note: try another temperature";
    play.disabled = !notes.length;
    canvas.dataset.notes = JSON.stringify(notes), roll(canvas, notes, -1);
  }

  function begin() {
    context = new AudioContext();
    const out = context.createDynamicsCompressor(), own = context, from = context.currentTime + 0.1, last = Math.max(...notes.map((note) => note.end));
    out.connect(context.destination);
    sound(context, out, notes, from, seconds);
    play.textContent = "Stop";
    const draw = () => {
      if (own !== context) return;
      const at = (context.currentTime - from) / seconds;
      if (at > last + 0.5) return stop();
      roll(canvas, notes, at), requestAnimationFrame(draw);
    };
    draw();
  }

  function begun(values) {
    try { checked(values), compose(); } catch (error) { said.textContent = error.message, play.disabled = !notes.length; }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(), begun(); });
  play.addEventListener("click", () => (context ? stop() : begin()));
  new ResizeObserver(() => context || roll(canvas, notes, -1)).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => roll(canvas, notes, -1));
  begun(given);
}

// What a language model writes, token by token, and the page on which it does.
import { settings, tokenizer } from "./texts.js";

// Numbers from 0 to 1, the same for the same seed (mulberry32).
function drawn(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const likeliest = (logits) => logits.reduce((best, value, i) => (value > logits[best] ? i : best), 0);

function chosen(logits, temperature, random) {
  const top = Math.max(...logits), weights = Array.from(logits, (value) => Math.exp((value - top) / temperature));
  let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; ++i) if ((left -= weights[i]) < 0) return i;
  return likeliest(logits);
}

// Yields text as it comes, `length` tokens in all; temperature 0: always the likeliest.
export function* written(model, prompt, { length, temperature = 0, seed = 0 }) {
  if (!(length >= 0 && temperature >= 0 && temperature < Infinity))
    throw new Error(`length = ${length}, temperature = ${temperature}; expected 0 or more.`);
  const codec = tokenizer(JSON.parse(model.said("tokenizer"))), stream = model.stream(1);
  const strange = codec.strange?.(prompt);
  if (strange) throw new Error(`The prompt has “${strange}”, a character that the model has never seen.`);
  const spelling = codec.stream(prompt), random = drawn(seed), tokens = [codec.start, ...codec.encode(prompt)];
  let last = tokens.pop();
  try {
    for (const token of tokens) stream.step([token]);
    for (let i = 0; i < length; ++i) {
      const logits = stream.step([last]);
      if (codec.unknown !== null) logits[codec.unknown] = -Infinity;
      last = temperature > 0 ? chosen(logits, temperature, random) : likeliest(logits);
      yield spelling.push(last);
    }
    yield spelling.close();
  } finally { stream.close(); }
}

const TURN = 12;  // milliseconds of work before the page is drawn again

export function show(model, place) {
  const codec = JSON.parse(model.said("tokenizer")), unit = { characters: "characters", bytes: "bytes", words: "words" }[codec.kind] ?? "tokens";
  place.innerHTML = `
    <form>
      <label class="wide">Begin with <textarea name="prompt" rows="2" spellcheck="false" placeholder="nothing: the model begins by itself"></textarea></label>
      <label>Temperature <output name="shown"></output>
        <input name="temperature" type="range" min="0" max="1.5" step="0.05" value="0.7"></label>
      <label>Length, in ${unit} <input name="length" type="number" min="1" max="100000" value="600"></label>
      <p class="buttons"><button name="go">Write</button><span class="quiet" id="speed" role="status"></span></p>
    </form>
    <article id="text" aria-live="off"></article>`;
  const form = place.querySelector("form"), { prompt, temperature, shown, go } = form.elements, length = form.elements.namedItem("length");
  const text = place.querySelector("#text"), speed = place.querySelector("#speed");
  const given = new URLSearchParams(location.hash.slice(1));
  const checked = settings(given, length, temperature);  // of the address; fields put right in silence what they are given
  for (const field of [prompt, temperature, length]) if (given.has(field.name)) field.value = given.get(field.name);
  const tell = () => { shown.value = Number(temperature.value) ? Number(temperature.value).toFixed(2) : "0: always the likeliest"; };
  temperature.addEventListener("input", tell), tell();
  let turn = 0;

  function refuse(error) {
    text.replaceChildren(error.message), text.classList.add("wrong"), speed.textContent = "", text.dataset.done = "yes";
  }

  async function write() {
    const own = ++turn, begin = Object.assign(document.createElement("span"), { className: "given", textContent: prompt.value });
    const made = document.createTextNode("");
    text.replaceChildren(begin, made), text.classList.remove("wrong");
    go.textContent = "Stop";
    let count = 0, busy = 0, until = performance.now() + TURN, since = performance.now();
    const said = () => { if (count > 0 && busy > 0) speed.textContent = `${count.toLocaleString("en")} ${unit}, ${Math.round((count / busy) * 1000).toLocaleString("en")} a second`; };
    try {
      for (const piece of written(model, prompt.value, checked())) {
        made.data += piece, ++count;
        if (performance.now() < until) continue;
        busy += performance.now() - since, said();
        await new Promise((resolve) => setTimeout(resolve));
        if (own !== turn) return;
        since = performance.now(), until = since + TURN;
      }
      --count, busy += performance.now() - since, said();
    } catch (error) { refuse(error); }
    turn = 0, go.textContent = "Write", text.dataset.done = "yes";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (go.textContent === "Stop") turn = 0, go.textContent = "Write";
    else write();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  try { checked(given), write(); } catch (error) { refuse(error); }
}

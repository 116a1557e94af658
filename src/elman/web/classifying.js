// What a classifier says to a text, and which words weighed: the text is read again without each of them.
import { lexicon } from "./texts.js";

const MOST = 120;  // words that are left out in turn, at most

// p of each label for rows of numbers: all in one batch.
function answers(model, rows, several) {
  const steps = Math.max(1, ...rows.map((row) => row.length)), batch = rows.length, tokens = new Array(steps * batch).fill(0);
  rows.forEach((row, b) => row.forEach((number, t) => { tokens[t * batch + b] = number; }));
  const { y: [logits] } = model.run([tokens], { steps, batch, lengths: rows.map((row) => row.length) }), K = logits.length / batch;
  return rows.map((_, b) => {
    const own = Array.from(logits.subarray(b * K, (b + 1) * K));
    if (several) return own.map((value) => 1 / (1 + Math.exp(-value)));
    const top = Math.max(...own), parts = own.map((value) => Math.exp(value - top)), sum = parts.reduce((a, c) => a + c, 0);
    return parts.map((part) => part / sum);
  });
}

const odds = (p) => Math.log(Math.min(Math.max(p, 1e-12), 1 - 1e-9) / (1 - Math.min(Math.max(p, 1e-12), 1 - 1e-9)));

// p of each label, the numbers of those that are said, and of each word what its absence takes from the odds of the
// likeliest one, as a difference of logarithms; null where it was not asked.
export function judged(model, text) {
  const codec = JSON.parse(model.said("codec")), all = lexicon(codec.lexicon)(text);
  const spans = codec.longest ? all.slice(0, codec.longest) : all, numbers = spans.map((span) => span.number);
  const asked = Math.min(spans.length, MOST);
  const rows = [numbers, ...Array.from({ length: asked }, (_, i) => numbers.toSpliced?.(i, 1) ?? numbers.filter((_, k) => k !== i))];
  const [p, ...without] = answers(model, rows, codec.several), best = p.indexOf(Math.max(...p));
  const said = codec.several ? p.flatMap((value, k) => (value >= codec.thresholds[k] ? [k] : [])) : [best];
  const weights = spans.map((_, i) => (i < asked ? odds(p[best]) - odds(without[i][best]) : null));
  return { labels: codec.labels, several: codec.several, p, best, said, spans, weights };
}

export function show(model, place) {
  place.innerHTML = `
    <form onsubmit="return false">
      <label class="wide">Text <textarea name="text" rows="4" spellcheck="false" placeholder="Type or paste a text"></textarea></label>
    </form>
    <div id="answer" role="status"></div>
    <article id="words"></article>
    <p class="quiet" id="legend" hidden></p>`;
  const field = place.querySelector("textarea"), answer = place.querySelector("#answer"), words = place.querySelector("#words");
  const legend = place.querySelector("#legend"), made = (tag, more) => Object.assign(document.createElement(tag), more);

  function bars({ labels, p, said }) {
    const order = p.map((_, k) => k).sort((a, b) => p[b] - p[a]);
    answer.replaceChildren(...order.slice(0, 12).map((k) => {
      const row = made("div", { className: said.includes(k) ? "bar said" : "bar" }), track = made("span", { className: "track" });
      track.append(made("i", { style: `width:${(100 * p[k]).toFixed(2)}%` }));
      row.append(made("b", { textContent: labels[k] }), track, made("span", { className: "number", textContent: p[k].toFixed(3) }));
      return row;
    }));
  }

  function coloured(text, { spans, weights, labels, best }) {
    const top = Math.max(1e-9, ...weights.map((weight) => Math.abs(weight ?? 0))), parts = [];
    let at = 0;
    spans.forEach(({ start, end }, i) => {
      parts.push(text.slice(at, start));
      const share = Math.abs(weights[i] ?? 0) / top, mark = made("mark", { textContent: text.slice(start, end) });
      mark.className = weights[i] > 0 ? "for" : "against";
      mark.style.setProperty("--share", share.toFixed(3));
      if (weights[i] !== null) mark.title = `${weights[i] > 0 ? "+" : "−"}${Math.abs(weights[i]).toFixed(2)}`;
      parts.push(share > 0.08 ? mark : mark.textContent);
      at = end;
    });
    words.replaceChildren(...parts, text.slice(at));
    legend.innerHTML = 'Words <mark class="for" style="--share:.8">for</mark> and <mark class="against" style="--share:.8">against</mark> ';
    legend.append(`“${labels[best]}”: by how much its odds change when the word is left out.`);
  }

  function look() {
    const text = field.value, empty = !text.trim();
    answer.hidden = words.hidden = legend.hidden = empty;
    if (empty) return;
    try {
      const found = judged(model, text);
      bars(found), coloured(text, found);
    } catch (error) { answer.replaceChildren(error.message); }
  }
  let soon = 0;
  field.addEventListener("input", () => { clearTimeout(soon), soon = setTimeout(look, 60); });
  field.value = new URLSearchParams(location.hash.slice(1)).get("text") ?? "";
  look();
}

// Texts to numbers and back, as elman.data.vocabulary and elman.data.words have it. Text goes by characters, not by the
// halves of which JavaScript makes some of them.

const WHITE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000", OTHER_WHITE = "\\x1c-\\x1f";
const BLANKS = new RegExp(`[${WHITE}${OTHER_WHITE}]+`, "u");
const ENCODER = new TextEncoder();

// A number that was typed or stands in the address; an Error where it is none, or not from `least` to `most`.
function number(name, value, least, most, whole) {
  const found = Number(value);
  if (String(value).trim() && found >= least && found <= most && (!whole || Number.isInteger(found))) return found;
  throw new Error(`The ${name} is “${value}”; expected a ${whole ? "whole " : ""}number from ${least} to ${most}.`);
}

// How much is to be drawn, how freely, and the seed: what the fields say, or the address alone, where it speaks of them.
// The seed is the address's, or another one each time. An Error for what is no such number.
export function settings(address, length, temperature) {
  const from = (field, values) => {
    const value = values?.get(field.name) ?? field.value;
    return number(field.name, value, Number(field.min), Number(field.max), field === length);
  };
  return (values = null) => ({
    length: from(length, values), temperature: from(temperature, values),
    seed: address.has("seed") ? number("seed", address.get("seed"), -(2 ** 53), 2 ** 53, true) : Math.floor(Math.random() * 2 ** 31),
  });
}

const numbered = (words, first = 0) => new Map(words.map((word, i) => [word, first + i]));

// Each token has a text of its own.
const spelled = (pieces) => () => ({ push: (token) => pieces[token], close: () => "" });

// Each token has its bytes; a character appears when its last byte does.
function inBytes(pieces) {
  return () => {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return { push: (token) => decoder.decode(pieces[token], { stream: true }), close: () => decoder.decode() };
  };
}

function characters({ characters: known, marked }) {
  const letters = [...known], numbers = numbered(letters, marked ? 2 : 1);
  return {
    unknown: 0, mark: marked ? 1 : null,
    encode: (text) => Array.from(text, (letter) => numbers.get(letter) ?? 0),
    stream: spelled(["\ufffd", ...(marked ? ["\n\n"] : []), ...letters]),
    strange: (text) => [...text].find((letter) => !numbers.has(letter)),
  };
}

function bytes({ marked }) {
  const pieces = [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), ENCODER.encode("\n\n")];
  return { unknown: null, mark: marked ? 256 : null, encode: (text) => [...ENCODER.encode(text)], stream: inBytes(pieces) };
}

function words({ words: known, marked }) {
  const numbers = numbered(known), end = "<eos>", unknown = numbers.get("<unk>");
  const own = (line) => line.split(BLANKS).filter(Boolean);
  return {
    unknown, mark: marked ? known.length : null,
    encode(text) {
      const lines = text.split("\n"), rest = lines.pop();
      return [...lines.flatMap((line) => [...own(line), end]), ...own(rest)].map((word) => numbers.get(word) ?? unknown);
    },
    stream(before = "") {
      let begins = !before || BLANKS.test([...before].at(-1));
      return {
        push(token) {
          const word = token < known.length ? known[token] : end, gap = begins || word === end ? "" : " ";
          begins = word === end;
          return word === end ? "\n" : gap + word;
        },
        close: () => "",
      };
    },
  };
}

// The visible letter by which each byte is written: printable ones stay, the rest begin at U+0100.
function letters() {
  const printable = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let spare = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : spare++));
}

function pairs({ tokenizers: { model }, marked }) {
  const numbers = new Map(Object.entries(model.vocab)), letter = letters(), byte = numbered(letter), size = numbers.size;
  const ranks = numbered(model.merges.map((pair) => (typeof pair === "string" ? pair : pair.join(" "))));
  const spelling = Array(size);
  for (const [word, number] of numbers) spelling[number] = Uint8Array.from(word, (one) => byte.get(one));
  const parts = new RegExp(
    `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${WHITE}\\p{L}\\p{N}]+|[${WHITE}]+(?![^${WHITE}])|[${WHITE}]+`, "gu");
  const known = new Map();
  // Of all neighbours those that were merged first, the first of them first.
  function merged(part) {
    if (known.has(part)) return known.get(part);
    const found = Array.from(ENCODER.encode(part), (one) => letter[one]);
    for (;;) {
      let best = Infinity, at = 0;
      for (let i = 0; i + 1 < found.length; ++i) {
        const rank = ranks.get(`${found[i]} ${found[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (best === Infinity) break;
      found.splice(at, 2, found[at] + found[at + 1]);
    }
    known.set(part, found.map((word) => numbers.get(word)));
    return known.get(part);
  }
  return {
    unknown: null, mark: marked ? size : null,
    encode: (text) => (text.match(parts) ?? []).flatMap(merged),
    stream: inBytes([...spelling, ENCODER.encode("\n\n")]),
  };
}

const KINDS = { characters, bytes, words, bpe: pairs };

// A tokenizer: encode(text) -> numbers; stream(before) -> push(number), close(); start: the number a text begins after.
export function tokenizer(saved) {
  const made = KINDS[saved.kind](saved), [end] = made.encode("\n");
  return { kind: saved.kind, start: made.mark ?? (end === undefined || end === made.unknown ? 0 : end), ...made };
}

// Words with their places, and their numbers, for a classifier.
const LETTER = "[\\p{L}\\p{N}_]", SIGN = `[^\\p{L}\\p{N}_${WHITE}${OTHER_WHITE}]`;
const WORD = `n't(?!${LETTER})|'(?:s|re|ve|ll|d|m)(?!${LETTER})|${LETTER}+?(?=n't(?!${LETTER}))|${LETTER}+|${SIGN}`;

export function lexicon({ words: known, unit, lower }) {
  const numbers = numbered(known, 1);
  const pattern = unit === "words" ? WORD : `[^${WHITE}${OTHER_WHITE}]|[${WHITE}${OTHER_WHITE}]+`;
  return (text) => Array.from(text.replaceAll("\u2019", "'").matchAll(new RegExp(pattern, "giu")), ({ 0: word, index: start }) => {
    const plain = unit !== "words" && BLANKS.test(word) ? " " : lower ? word.toLowerCase() : word;
    return { word, start, end: start + word.length, number: numbers.get(plain) ?? 0 };
  });
}

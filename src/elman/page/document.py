"""A whole page: its head, its style, its sections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from elman.page.parts import text

__all__ = ["Section", "document"]

STYLE = """
:root { --ink: #1f2933; --muted: #5b6673; --frame: #dfe3e8; --panel: #f5f6f8; --paper: #ffffff; --red: #c8431d; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--panel); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
header, main, footer { max-width: 960px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 44px; padding-bottom: 6px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 14px; letter-spacing: -0.005em; }
header p { margin: 0; color: var(--muted); }
section { background: var(--paper); border: 1px solid var(--frame); border-radius: 12px; padding: 24px 28px;
  margin: 20px 0; }
section > :last-child { margin-bottom: 0; }
p { margin: 0 0 12px; overflow-wrap: anywhere; }
.quiet { color: var(--muted); font-size: 14px; }
.warning { border-left: 4px solid var(--red); padding: 6px 12px; background: #fdf1ed; border-radius: 0 6px 6px 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 18px; margin: 0 0 18px; }
.facts strong { display: block; font-size: 25px; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts span { color: var(--muted); font-size: 14px; }
.scroll { overflow-x: auto; margin: 0 0 14px; }
table { border-collapse: collapse; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 12px; border-bottom: 1px solid var(--frame); vertical-align: top; }
thead th { color: var(--muted); font-weight: 500; font-size: 13.5px; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
.strong td { font-weight: 600; }
.matrix { width: auto; } .matrix tbody th { font-weight: 500; } .matrix td { min-width: 52px; }
.heat { width: auto; } .heat th { font-weight: 500; padding: 1px 8px; white-space: nowrap; } .heat td { width: 22px;
  height: 22px; min-width: 22px; padding: 0; border: 1px solid var(--frame); } .upright { vertical-align: bottom; }
.upright span { writing-mode: vertical-rl; transform: rotate(180deg); }
figure { margin: 0 0 18px; } figure svg { display: block; width: 100%; height: auto; max-height: 900px; }
figcaption { color: var(--muted); font-size: 14px; margin-top: 6px; }
.picture { display: block; max-width: 100%; height: auto; }
.chart { font-size: 12.5px; } .chart text { fill: var(--muted); } .chart .name { font-size: 13px; }
.grid { stroke: var(--frame); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.faint { fill: none; stroke-width: 1; opacity: 0.28; } .ring { fill: none; stroke-width: 2; }
.lit { white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.75 ui-monospace, "SF Mono", Menlo, Consolas,
  "DejaVu Sans Mono", monospace; } .lit span { padding: 2px 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 24px; }
details { margin: 0 0 12px; } summary { cursor: pointer; color: var(--muted); }
details[open] summary { margin-bottom: 12px; }
code, pre { font: 14px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--panel); border-radius: 8px; padding: 12px 14px; overflow-x: auto; white-space: pre-wrap; }
mark { background: #fbe3c4; color: inherit; border-radius: 3px; padding: 0 2px; }
footer { color: var(--muted); font-size: 13.5px; padding-bottom: 40px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


class Section(NamedTuple):
    """A part of a page with its heading. body: HTML, as `elman.page.parts` makes it."""

    title: str
    body: str

    @classmethod
    def of(cls, title: str, *pieces: str) -> Section:
        """A section of several pieces."""
        return cls(title, "".join(pieces))


def document(title: str, subtitle: Sequence[str], sections: Iterable[Section], footer: str) -> str:
    """The page as one HTML file. subtitle: lines below the title."""
    body = "".join(
        f"<section><h2>{text(section.title)}</h2>{section.body}</section>"
        for section in sections
        if section.body
    )
    lines = "".join(f"<p>{text(line)}</p>" for line in subtitle)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="generator" content="Elman">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><header><h1>{text(title)}</h1>{lines}</header>\n<main>{body}</main>\n"
        f"<footer>{text(footer)}</footer></body></html>\n"
    )

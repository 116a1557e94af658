"""Run the code of the pages and put what it makes in its place: python docs/learn/make.py [PAGE ...].

The pictures go to docs/pictures/learn/, what is printed into the block behind the code. The tests run the same code and
compare.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PICTURES = FOLDER.parent / "pictures" / "learn"
CODE = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL
)
NEXT = re.compile(r"^Next: \[[^]]*\]\(([^)#]+)", re.MULTILINE)


def pages() -> list[Path]:
    """The pages in the order in which they are read: each names the next one."""
    page, found = FOLDER / "why.md", []
    while page.parent == FOLDER:
        found.append(page)
        page = (FOLDER / NEXT.findall(page.read_text(encoding="utf-8"))[0]).resolve()
    return found


def run(page: Path, folder: Path) -> list[str]:
    """What each block of code of a page prints; its pictures are written into `folder`."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    printed = []
    with contextlib.chdir(folder):
        for block in CODE.finditer(text):
            # Blank lines in front, so that a traceback gives the line of the page.
            code = "\n" * (text.count("\n", 0, block.start()) + 1) + block["code"]
            with contextlib.redirect_stdout(io.StringIO()) as lines:
                exec(compile(code, str(page), "exec"), names)
            printed.append(lines.getvalue())
    return printed


def make(page: Path) -> None:
    """Pictures and printed lines of one page."""
    printed = iter(run(page, PICTURES))

    def filled(block: re.Match[str]) -> str:
        lines = next(printed)
        code = f"```python\n{block['code']}```"
        return f"{code}\n\n```text\n{lines}```" if lines else code

    page.write_text(CODE.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    for chosen in sys.argv[1:] or [page.stem for page in pages()]:
        make(FOLDER / f"{chosen}.md")

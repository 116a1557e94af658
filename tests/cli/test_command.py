"""The command: help, versions, and one line for every mistake."""

import sys
from pathlib import Path

import pytest

import elman as package
from command import TINY, elman, process, verse

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        [],
        ["train", "--help"],
        ["train", "language-model", "--help"],
        ["generate", "--help"],
        ["evaluate", "--help"],
        ["draw", "--help"],
        ["train", "language-model", "--hiden", "3"],
        ["train", "language-model", "--data", "nothing-there"],
    ],
)
def test_light_commands_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    probe = (
        "import sys; from elman.cli import run; code = run(sys.argv[1:]);"
        "heavy = {'torch', 'matplotlib', 'tokenizers', 'safetensors'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", probe, *arguments],
        env={"PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "imported" not in done.stderr
    assert done.returncode == (2 if "nothing-there" in arguments or "--hiden" in arguments else 0), (
        done.stderr
    )


def test_importing_the_package_is_light() -> None:
    import subprocess

    probe = "import elman, sys; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", probe], env={"PYTHONPATH": str(ROOT / "src")}, check=False
        ).returncode
        == 0
    )


def test_the_version_is_the_packages() -> None:
    assert elman("--version").out == f"elman {package.__version__}\n"
    assert package.__version__.count(".") == 2


def test_every_lazy_name_is_there() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018 - the access is the test


def test_help_shows_every_flag_with_its_default() -> None:
    text = elman("train", "language-model", "--help").out
    for words in (
        "--hidden UNITS",
        "(default: 256)",
        "--data PATH ...",
        "--no-tied",
        "[optimizer]",
        "--run FOLDER",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("trian", "unknown command 'trian'; did you mean train?"),
        (
            "frobnicate",
            "unknown command 'frobnicate'; the commands are train, list, compare, serve, generate",
        ),
        ("train language-modle", "unknown task 'language-modle'; did you mean language-model?"),
        (
            "train --hidden 3",
            "elman train needs a task before its flags: elman train language-model --hidden",
        ),
        ("train language-model --hiden 3", "unknown flag --hiden; did you mean --hidden?"),
        ("train language-model --hiden=3", "unknown flag --hiden; did you mean --hidden?"),
        ("train language-model --zzzzzz", "unknown flag --zzzzzz; see elman train language-model --help"),
        ("train language-model extra", "'extra' is one word too many"),
        ("train language-model --hidden", "--hidden: expected one argument"),
        ("train language-model --hidden none", "--hidden: 'none' is not a whole number"),
        (
            "train language-model --cell lstn",
            "nor a package.module:Class; did you mean 'lstm'?",
        ),
        ("train language-model --tied --embedding 3", "--tied needs one width"),
        ("train language-model --engine torch --zoneout 0.1", "--zoneout: torch.nn has no such thing"),
        (
            "train language-model --cell gru --forget-bias 1",
            "--forget-bias: --cell gru has no forget gate",
        ),
        ("train language-model --valid-share 0.6 --test-share 0.6", "leave nothing to train on"),
        ("train language-model --data text.txt --device abacus", "--device abacus: torch cannot use it here"),
        ("train language-model --config nothing.toml", "no such config file: nothing.toml"),
        (
            "train language-model --config bad.toml",
            "bad.toml: unknown key 'hiden' in [model]; did you mean 'hidden'?",
        ),
        ("train language-model --data nothing.txt", "no such file or folder: nothing.txt"),
        ("train language-model --data empty.txt", "empty.txt is empty"),
        ("train language-model --data latin.txt", "latin.txt is not UTF-8 text"),
        (
            "train language-model --data short.txt",
            "too short: 22 characters, but 32 streams of 64 steps need 2,080",
        ),
        ("train language-model --data text.txt --valid short.txt --test empty.txt", "empty.txt is empty"),
        ("train language-model --data text.txt --valid one.txt", "validation text is too short"),
        (
            "train language-model --data text.txt --tokens bpe --vocabulary 9",
            "--vocabulary 9 is too small for byte pairs",
        ),
        ("train language-model --resume nowhere", "no run folder at nowhere"),
        ("train language-model --resume a --run b", "--run b and --resume a name two folders"),
        ("train language-model --resume a --overwrite", "--resume and --overwrite contradict each other"),
        ("train language-model --resume a --config bad.toml", "leave --config out"),
        ("train language-model --data text.txt --run notes", "notes exists and is not a run folder"),
        (
            "train language-model --data text.txt --run notes --overwrite",
            "notes exists and is not a run folder",
        ),
        ("train language-model --data text.txt --run text.txt", "text.txt exists and is not a run folder"),
        (
            "train language-model --data text.txt --run text.txt/run",
            "text.txt/run cannot be made: text.txt is a file",
        ),
        ("generate", "elman generate needs a run folder first: elman generate RUN ..."),
        ("generate --length 3", "elman generate needs a run folder first"),
        ("generate nowhere", "no run folder at nowhere"),
        ("evaluate notes", "notes is not a run folder: it has no run.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(verse(100))
    Path("short.txt").write_text("only a few words, too few")
    Path("one.txt").write_text("1")
    Path("empty.txt").write_text("")
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("bad.toml").write_text("[model]\nhiden = 3\n")
    Path("notes").mkdir()
    Path("notes/dear.txt").write_text("diary")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = elman(*line.split())
    assert result.code == 2
    assert says in result.err
    assert result.err.splitlines()[-1].startswith("elman: error: ")
    assert result.err.count("elman: error:") == 1
    assert "Traceback" not in result.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "text.txt").write_text(verse())
    run = tmp_path / "run"
    assert elman("train", "language-model", "--data", tmp_path / "text.txt", "--run", run, *TINY).code == 0
    words = f"{sys.executable} -m elman generate {run} --length 20000 | head -c 5"
    done = subprocess.run(
        words,
        shell=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout) == 5
    assert done.stderr == ""


def test_the_module_runs_as_a_command() -> None:
    result = process("--version")
    assert (result.code, result.out) == (0, f"elman {package.__version__}\n")
    assert process("nonsense").code == 2

"""The `elman` command.

Flags, their help and their checks are made from the settings classes (`elman.config`), so this file names none of a
task's settings. Help and errors come before any heavy import. Exit codes: 0 done, 2 something the user can mend (one
line on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, get_origin

import elman
from elman.config import (
    Option,
    UserError,
    build,
    check_effects,
    nearest,
    options,
    pasted,
    read_settings,
    values_of,
)

__all__ = ["run"]

OVERVIEW = """\
usage: elman COMMAND ...

Recurrent networks for PyTorch.

commands:
  train TASK       train a model on your data
{verbs}
  list [FOLDER]    the runs below a folder, with their measures
  compare RUN ...  runs side by side: table and curves
  serve RUN ...    answer over HTTP and WebSockets, with a page to try a model in a browser
  COMMAND --help   all flags of a command

tasks:
{tasks}

examples:
  elman train language-model --data book.txt --run runs/book
  elman generate runs/book --prompt "It was" --temperature 0.7
  elman train language-model --resume runs/book
"""


def run(arguments: Sequence[str]) -> int:
    """Carry out a command; returns the exit code."""
    try:
        return _dispatch(list(arguments))
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep Python from complaining when it closes the pipe.
        sys.stdout = None
        return 0
    except OSError as error:
        # A full disk, a missing permission; without a file's name it is not about the user's files.
        if error.filename is None and error.errno is None:
            raise
        return _fail(f"{error.filename or 'writing'}: {error.strerror}")
    except SystemExit as ended:
        # argparse ends so after --help.
        return int(ended.code or 0)
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    print(f"elman: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in {"-h", "--help", "help"}:
        from elman.tasks.base import TASKS, Task, find

        # What all tasks can do is told in words that fit all of them.
        shared = Task.verbs(find(next(iter(TASKS))))
        told = {word: shared.get(word, found[0][0]) for word, found in _verbs().items()}
        verbs = {f"{word} RUN": _unpunctuated(verb.summary) for word, verb in told.items()}
        print(OVERVIEW.format(tasks=_tasks(TASKS), verbs=_listed(verbs)), end="")
        return 0
    if command in {"-V", "--version"}:
        print(f"elman {elman.__version__}")
        return 0
    if command in COMMANDS:
        return COMMANDS[command](rest)
    known = [*COMMANDS, *_verbs()]
    if command not in known:
        hint = nearest(command, [*known, "--help", "--version"]) or f"; the commands are {', '.join(known)}"
        raise UserError(f"unknown command {command!r}{hint}")
    return _on_run(command, rest)


def _unpunctuated(summary: str) -> str:
    """As it stands in a list, beside entries that are no sentences."""
    return summary[0].lower() + summary[1:].removesuffix(".")


def _tasks(words: Mapping[str, Any]) -> str:
    return _listed({name: word.summary for name, word in words.items()})


def _listed(entries: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<16} {text}" for name, text in entries.items())


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


class _Help(argparse.HelpFormatter):
    """Help that never breaks a flag at its hyphen."""

    def __init__(self, prog: str) -> None:
        width = min(110, max(40, shutil.get_terminal_size((110, 24)).columns))
        super().__init__(prog, max_help_position=min(32, width // 3), width=width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return (
            f"{action.metavar} ..." if action.nargs == "+" else super()._format_args(action, default_metavar)
        )


def _parser(prog: str, summary: str) -> _Parser:
    usage = f"{prog} [--flag VALUE ...]"
    return _Parser(prog, usage=usage, description=summary, allow_abbrev=False, formatter_class=_Help)


def _add_options(
    parser: argparse.ArgumentParser, settings: type, defaults: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Flags of all options; `defaults`: by path, in place of the settings' own."""
    groups: dict[str, Any] = {}
    for entry in options(settings):
        entry = replace(entry, default=defaults.get(entry.path, entry.default))
        if entry.section not in groups:
            groups[entry.section] = (
                parser.add_argument_group(f"[{entry.section}]") if entry.section else parser
            )
        _add_option(groups[entry.section], entry)


def _add_option(group: Any, entry: Option) -> None:
    known: dict[str, Any] = {"dest": entry.path, "default": argparse.SUPPRESS, "help": _help(entry)}
    if entry.positional:
        known.pop("dest")
        group.add_argument(entry.path, nargs="*", metavar=entry.unit, **known)
    elif entry.plain_type is bool:
        group.add_argument(entry.flag, action=argparse.BooleanOptionalAction, **known)
    elif get_origin(entry.plain_type) is tuple:
        # A flag that is given twice adds to its list.
        group.add_argument(entry.flag, action="extend", nargs="+", metavar=entry.unit, **known)
    else:
        group.add_argument(entry.flag, metavar=entry.unit or "WORD", **known)


def _help(entry: Option) -> str:
    words = f": {', '.join(entry.choices)}" if entry.choices else ""
    return (entry.help + words + _default(entry.default)).replace("%", "%%")


def _default(value: Any) -> str:
    if value in ((), ""):
        return ""
    if isinstance(value, bool):
        return f" (default: {'on' if value else 'off'})"
    return f" (default: {value:g})" if isinstance(value, float) else f" (default: {value})"


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    """The flags that were given, by the paths of their options."""
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        word = unknown[0].split("=")[0]
        if not word.startswith("-"):
            raise UserError(f"{word!r} is one word too many; see {parser.prog} --help")
        flags = [flag for action in parser._actions for flag in action.option_strings]
        hint = nearest(word, flags) or f"; see {parser.prog} --help"
        raise UserError(f"unknown flag {word}{hint}")
    return vars(known)


def _train(arguments: list[str]) -> int:
    from elman.tasks.base import TASKS, find

    if not arguments or arguments[0] in {"-h", "--help"}:
        print(f"usage: elman train TASK [--flag VALUE ...]\n\ntasks:\n{_tasks(TASKS)}\n")
        print("elman train TASK --help: all flags")
        return 0
    if arguments[0].startswith("-"):
        raise UserError(
            f"elman train needs a task before its flags: elman train {next(iter(TASKS))} {arguments[0]} ..."
        )
    task = find(arguments[0])
    word = TASKS[task.name]
    parser = _parser(f"elman train {task.name}", f"{word.summary[0].upper()}{word.summary[1:]}.")
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file with settings, or a run.json; flags come after it"
    )
    parser.add_argument(
        "--run", metavar="FOLDER", help=f"where the run is kept (default: {Path('runs') / task.name})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="continue the run there (default: that of --run)",
    )
    parser.add_argument(
        "--init-from",
        metavar="RUN",
        help="start with the weights, the model's settings and the codec of that run",
    )
    parser.add_argument(
        "--folds", metavar="COUNT", help="train so many models, each tested on its own part of the data"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show account, size, memory and time of an epoch; write nothing",
    )
    _add_leave(parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    _add_options(parser, task.settings, word.defaults)
    given = _parse(parser, arguments[1:])
    own = {name: given.pop(name) for name in OWN}
    return _begin(task, own, given)


# The flags of `elman train` that are no settings.
OWN = ("config", "run", "overwrite", "resume", "init_from", "folds", "dry_run", "allow_code", "quiet")


def _begin(task: Any, own: dict[str, Any], given: dict[str, Any]) -> int:
    from elman.tasks.base import configure
    from elman.tasks.session import resume
    from elman.tasks.start import model_values

    path = Path(own["run"] or Path("runs") / task.name)
    if own["resume"]:
        run, path = _resumed(task, own, path)
        resume(task, run, given, display=_display(quiet=own["quiet"]))
        return 0
    values = (
        values_of(task.settings, read_settings(Path(own["config"])), source=own["config"])
        if own["config"]
        else {}
    )
    start = _start(task, own)
    begun = {} if start is None else model_values(task, start)
    config = configure(task, {**begun, **values, **given}, text=given)
    # A run's settings name all options, those without an effect too.
    whole = bool(own["config"]) and {entry.path for entry in options(task.settings)} <= values.keys()
    check_effects(config, given if whole else {**values, **given})
    _carry_out(task, config, path, own, start)
    return 0


def _start(task: Any, own: dict[str, Any]) -> Any:
    """The run to start from, if one is given."""
    from elman.tasks.base import TASKS, open_run

    if not own["init_from"]:
        return None
    run, made_by = open_run(own["init_from"], trust=own["allow_code"])
    if TASKS[made_by.name].module != TASKS[task.name].module:
        raise UserError(
            f"--init-from {run.path} is a run of {made_by.name}, whose model is not one of {task.name}"
        )
    return run


def _carry_out(task: Any, config: Any, path: Path, own: dict[str, Any], start: Any) -> None:
    from elman.tasks.session import dry_run, train, train_folds

    overwrite = own["overwrite"]
    if own["dry_run"]:
        # All that a dry run does is to say something.
        dry_run(task, config, display=_display(quiet=False), start=start)
    elif own["folds"]:
        if start is not None:
            raise UserError(
                "--folds and --init-from: the run has seen data that a fold is tested on; leave one out"
            )
        count = _folds(own["folds"])
        train_folds(task, config, path, count, overwrite=overwrite, display=_display(quiet=own["quiet"]))
    else:
        train(task, config, path, overwrite=overwrite, display=_display(quiet=own["quiet"]), start=start)


def _folds(word: str) -> int:
    if not word.isdecimal() or int(word) < 2:
        raise UserError(f"--folds: {word!r} is not a whole number >= 2")
    return int(word)


def _resumed(task: Any, own: dict[str, Any], path: Path) -> Any:
    from elman.tasks.base import open_run

    if own["config"]:
        raise UserError("--resume goes on with the run's own settings: leave --config out")
    for flag in ("init_from", "folds", "dry_run"):
        if own[flag]:
            raise UserError(f"--resume goes on with what is there: leave --{flag.replace('_', '-')} out")
    if own["overwrite"]:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    if isinstance(own["resume"], str):
        if own["run"] and Path(own["run"]) != Path(own["resume"]):
            raise UserError(
                f"--run {own['run']} and --resume {own['resume']} name two folders: give one of them"
            )
        path = Path(own["resume"])
    run, made_by = open_run(path, trust=own["allow_code"])
    if made_by.name != task.name:
        raise UserError(
            f"{path} is a run of {made_by.name}: elman train {made_by.name} --resume {pasted(path)}"
        )
    return run, path


def _display(*, quiet: bool) -> Any:
    from rich.console import Console

    from elman.training import progress
    from elman.training.parallel import here

    return progress.Silent() if quiet or not here().leads else progress.for_console(Console(stderr=True))


def _on_run(command: str, arguments: list[str]) -> int:
    """`elman VERB RUN ...`: what a verb does comes from the task that made the run."""
    from elman.tasks.base import load_run, open_run

    if not arguments or arguments[0].startswith("-"):
        return _without_run(command, arguments)
    run, task = open_run(arguments[0], trust="--allow-code" in arguments)
    verb = task.verbs().get(command)
    if verb is None:
        raise UserError(
            f"{run.path} is a run of {task.name}, which cannot {command}; it can {', '.join(task.verbs())}"
        )
    parser = _parser(f"elman {command} RUN", verb.summary)
    _add_options(parser, verb.settings)
    _add_leave(parser)
    given = _parse(parser, arguments[1:])
    given.pop("allow_code")
    settings: Any = build(verb.settings, given, text=given)
    check_effects(settings, given)
    if hasattr(settings, "check"):
        settings.check()
    trained = load_run(run, task, checkpoint=settings.checkpoint, device="cpu")
    for piece in verb.act(trained, settings):
        print(piece, end="", flush=True)
    return 0


def _without_run(command: str, arguments: list[str]) -> int:
    """`elman generate --help`, without a run, shows the flags for each kind of run that knows the verb."""
    if not arguments or arguments[0] not in {"-h", "--help"}:
        raise UserError(f"elman {command} needs a run folder first: elman {command} RUN ...")
    for verb, names in _verbs()[command]:
        parser = _parser(f"elman {command} RUN", f"{verb.summary} Runs of {', '.join(names)}:")
        _add_options(parser, verb.settings)
        _add_leave(parser)
        parser.print_help()
    return 0


def _add_leave(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-code", action="store_true", help="run the code of a run's own cell, if it has one"
    )


def _verbs() -> dict[str, list[tuple[Any, list[str]]]]:
    """All verbs of all tasks: what each does, and the words of the tasks whose runs it does this with."""
    from elman.tasks.base import TASKS, find

    found: dict[str, list[tuple[Any, list[str]]]] = {}
    for name in TASKS:
        for word, verb in find(name).verbs().items():
            same = [names for known, names in found.setdefault(word, []) if known.settings is verb.settings]
            if same:
                same[0].append(name)
            else:
                found[word].append((verb, [name]))
    return found


def _list(arguments: list[str]) -> int:
    from elman.tasks.overview import List, list_runs

    return _without_task(
        "list [FOLDER ...]", "The runs below some folders, the newest first.", List, list_runs, arguments
    )


def _compare(arguments: list[str]) -> int:
    from elman.tasks.overview import Compare, compare

    summary = "Runs side by side: measure, size, time, differing settings, curves."
    return _without_task("compare RUN RUN ...", summary, Compare, compare, arguments)


def _serve(arguments: list[str]) -> int:
    from elman.serve.settings import Serve
    from elman.serve.starting import serve

    return _without_task(
        "serve RUN ...", "Answer over HTTP and WebSockets until Ctrl-C or SIGTERM.", Serve, serve, arguments
    )


def _without_task(
    usage: str, summary: str, kind: type, act: Callable[[Any], Iterable[str]], arguments: list[str]
) -> int:
    parser = _parser(f"elman {usage}", summary)
    _add_options(parser, kind)
    given = _parse(parser, arguments)
    settings: Any = build(kind, given, text=given)
    check_effects(settings, given)
    for piece in act(settings):
        print(piece, end="", flush=True)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "list": _list,
    "compare": _compare,
    "serve": _serve,
}

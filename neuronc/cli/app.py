"""Commands are registered here, and whatever they raise becomes a message and an exit code here."""

import copy
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from typer.main import get_command

from neuronc import __version__
from neuronc.cli import (
    bench,
    build,
    cache,
    check,
    compare,
    diff,
    doctor,
    embed,
    explain,
    generate,
    inspect,
    lock,
    models,
    output,
    refit,
    sign,
    split,
    unsplit,
    verify,
)
from neuronc.cli import compile as compile_module
from neuronc.cli.failures import describe
from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report
from neuronc.tools import installed_versions


def version(*, _quiet: QuietFlag = False, _json: JsonFlag = False) -> Report:
    """Print the versions of everything that compiles."""
    versions = installed_versions()
    return Report(command="version", data=dict(versions))


Commands = Mapping[str, tuple[Callable[..., Report], tuple[str, str]]]
"""name -> (function, its two examples), in the order `--help` lists them."""

COMMANDS: Commands = {
    "build": (build.build, build.EXAMPLES),
    "lock": (lock.lock, lock.EXAMPLES),
    "split": (split.split, split.EXAMPLES),
    "unsplit": (unsplit.unsplit, unsplit.EXAMPLES),
    "compile": (compile_module.compile_command, compile_module.EXAMPLES),
    "refit": (refit.refit, refit.EXAMPLES),
    "verify": (verify.verify, verify.EXAMPLES),
    "generate": (generate.generate, generate.EXAMPLES),
    "embed": (embed.embed, embed.EXAMPLES),
    "bench": (bench.bench, bench.EXAMPLES),
    "compare": (compare.compare, compare.EXAMPLES),
    "inspect": (inspect.inspect, inspect.EXAMPLES),
    "diff": (diff.diff, diff.EXAMPLES),
    "check": (check.check, check.EXAMPLES),
    "sign": (sign.sign, sign.EXAMPLES),
    "models": (models.models, models.EXAMPLES),
    "doctor": (doctor.doctor, doctor.EXAMPLES),
    "explain": (explain.explain, explain.EXAMPLES),
    "version": (version, ("neuronc version", "neuronc version --json")),
}


# name -> (help text, its verbs), for verbs that have verbs of their own.
GROUPS: dict[str, tuple[str, Commands]] = {"cache": (cache.HELP, cache.COMMANDS)}


def create_app(
    commands: Commands, groups: Mapping[str, tuple[str, Commands]] | None = None
) -> typer.Typer:
    """A typer app of ``commands``; each help text ends with the command's examples."""
    created = _new_app(commands)
    created.callback(epilog=_epilog(("neuronc --version", "neuronc version --json")))(_root)
    for name, (text, verbs) in (groups or {}).items():
        examples = [examples[0] for _, examples in verbs.values()][:2]
        created.add_typer(_new_app(verbs), name=name, help=text, epilog=_epilog(examples))
    return created


def _new_app(commands: Commands) -> typer.Typer:
    # With rich markup typer imports rich for every help text; plain text starts faster.
    created = typer.Typer(add_completion=False, rich_markup_mode=None)
    for name, (function, examples) in commands.items():
        created.command(name, epilog=_epilog(examples))(function)
    return created


def _epilog(examples: Sequence[str]) -> str:
    # \b keeps the lines as they are instead of filling them into one paragraph.
    return "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])


def _print_version(given: bool) -> None:
    if given:
        output.write_line(f"neuronc {__version__}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """Compile language models ahead of time, and prove the result without the device."""


app = create_app(COMMANDS, GROUPS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return its exit code."""
    sys.unraisablehook = _repeat_lost_interrupt
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: whatever was begun is tidied up
        if signal.getsignal(number) is signal.SIG_DFL and _is_main_thread():
            signal.signal(number, signal.default_int_handler)
    for name in ("stdout", "stderr"):  # closed by the caller: there is nobody to tell
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    try:
        return run(app, sys.argv[1:] if argv is None else argv)
    finally:
        for timer in _interrupts:  # came too late: the end has an exit code
            timer.cancel()
        _interrupts.clear()


_interrupts: list[threading.Timer] = []
"""Those that are going to be sent again."""


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _repeat_lost_interrupt(lost: Any) -> None:
    """Ctrl-C that came inside a library's callback, where Python can only drop it: send it again."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        _interrupts.append(again)
        again.start()
    else:
        sys.__unraisablehook__(lost)


def run(application: typer.Typer, argv: Sequence[str]) -> int:
    """Run ``argv``, write its report or its failure, and return the exit code; never raises."""
    arguments = list(argv) or ["--help"]
    flags = _flags(arguments)
    wants_help = not flags.isdisjoint({"--help", "--version"})
    as_json = "--json" in flags
    try:
        # Help goes to stdout even with --json: no document is owed then.
        report = _invoke(application, arguments, reserve_stdout=as_json and not wants_help)
        if report is None:
            return 0
        return _write(report, as_json=as_json)
    except BaseException as error:  # noqa: BLE001 (every end of the program gets its exit code)
        if wants_help and isinstance(error, BrokenPipeError):
            output.drop_stdout()
            return 0
        failure = describe(error)
        command = _command_name(application, arguments)
        output.write_failure(failure, command=command, as_json=as_json)
        return failure.exit_code


def _flags(arguments: list[str]) -> set[str]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return set(arguments[:end])


def _command_name(application: typer.Typer, arguments: Sequence[str]) -> str:
    """The verb of ``arguments``, with the verb before it where there are two."""
    first, second = [*arguments, ""][:2]
    if first in {info.name for info in application.registered_commands}:
        return first
    groups = {g.name: g.typer_instance for g in application.registered_groups}
    group = groups.get(first)
    if group is None:
        return "neuronc"
    known = {info.name for info in group.registered_commands}
    return f"{first} {second}" if second in known else first


def _invoke(
    application: typer.Typer, arguments: list[str], *, reserve_stdout: bool
) -> Report | None:
    """The command's report; None after ``--help`` and ``--version``, which print by themselves."""
    # Not typer's own main(): that one turns errors into text on stderr and exits by itself.
    group = get_command(_with_only(application, arguments[0]))
    try:
        with (
            output.stdout_reserved() if reserve_stdout else nullcontext(),
            group.make_context("neuronc", list(arguments)) as context,
        ):
            report: Report = group.invoke(context)
            return report
    except typer.Exit:
        return None


def _with_only(application: typer.Typer, verb: str) -> typer.Typer:
    """``application`` with nothing but ``verb``, if it has that: the flags of others take a while."""
    chosen = [info for info in application.registered_commands if info.name == verb]
    if not chosen:
        return application
    narrowed = copy.copy(application)
    narrowed.registered_commands, narrowed.registered_groups = chosen, []
    return narrowed


def _write(report: Report, *, as_json: bool) -> int:
    try:
        output.write_report(report, as_json=as_json)
    except BrokenPipeError:
        # `neuronc ... | head`: the reader has seen enough, and the work is done.
        output.drop_stdout()
    return report.exit_code

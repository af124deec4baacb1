"""The `ufm` command.

It only parses, calls the library, and prints. Subcommands import JAX themselves, so that
`ufm --help` answers at once.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, Union, cast

import tyro

from ufm.cli.certify import Certify
from ufm.cli.check_loss import CheckLoss
from ufm.cli.cite import Cite
from ufm.cli.completion import Completion
from ufm.cli.hunt import Hunt
from ufm.cli.landscape import Landscape
from ufm.cli.measure import Measure
from ufm.cli.output.print import (
    flushed,
    replace_unprintable,
    tell,
    warnings_as_notes,
    with_flags,
    write,
)
from ufm.cli.parsing import config as _config
from ufm.cli.parsing.complaint import in_one_line
from ufm.cli.parsing.examples import examples
from ufm.cli.report import Report
from ufm.cli.reproduce import Reproduce
from ufm.cli.solve import Solve
from ufm.cli.spectrum import Spectrum
from ufm.cli.store import Store
from ufm.cli.sweep import Sweep
from ufm.cli.train import Train
from ufm.cli.version import Version

#: The subcommands, in the order of `ufm --help`.
COMMANDS = {
    "solve": Solve,
    "certify": Certify,
    "measure": Measure,
    "check-loss": CheckLoss,
    "spectrum": Spectrum,
    "landscape": Landscape,
    "hunt": Hunt,
    "sweep": Sweep,
    "train": Train,
    "reproduce": Reproduce,
    "store": Store,
    "report": Report,
    "cite": Cite,
    "completion": Completion,
    "version": Version,
}

_DESCRIPTION = (
    "The unconstrained feature model of deep classification: solve it, and certify where each run "
    "ended. `ufm solve` with no arguments tests the claim of Zhou et al. (NeurIPS 2022) for "
    "every loss of the paper."
)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit code.

    0: done. 1: a verdict is not the recorded one (`ufm reproduce`). 2: bad input. 130: interrupted.
    """
    replace_unprintable()
    command = None
    try:
        with flushed(), warnings_as_notes():
            command = parse(sys.argv[1:] if argv is None else argv)
            return command.run()
    except (ValueError, TypeError) as error:
        _fail(with_flags(str(error), command))
    except MemoryError:
        _fail("not enough memory: make the problem smaller")
    except BrokenPipeError:  # whoever read the output has enough, as `head` does
        return 1
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130


def parse(args: Sequence[str]) -> Any:
    """Parse the arguments into a subcommand with its options.

    Raises `SystemExit` after printing help, `ValueError` for invalid arguments, and the errors of
    `config.load` for a file of options.
    """
    args = ["version"] if list(args) == ["--version"] else _config.with_none(args, COMMANDS)
    from_file = _config.defaults(args, COMMANDS)
    brief = not args or args[0] in _config.HELP
    subcommands: Any = tuple(_subcommand(name, from_file, brief) for name in COMMANDS)
    try:
        with in_one_line():
            return tyro.cli(
                cast(Any, Union[subcommands]),  # noqa: UP007  # of a tuple made here
                prog="ufm",
                description=_DESCRIPTION,
                args=args,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit:
        if _config.HELP & set(args):
            write(examples(args[0]))
        raise


def _subcommand(name: str, from_file: Any, brief: bool) -> Any:
    """The tyro subcommand, with defaults from the file if it is for this command.

    `ufm --help` lists the commands in `brief`, with the first line of their descriptions.
    """
    command = COMMANDS[name]
    description = command.__doc__.partition("\n")[0] if brief else None
    if isinstance(from_file, command):
        return Annotated[command, tyro.conf.subcommand(name, default=from_file)]
    return Annotated[command, tyro.conf.subcommand(name, description=description)]


def _fail(message: str) -> NoReturn:
    with contextlib.suppress(OSError), flushed():  # perhaps nobody reads that either
        tell(f"ufm: error: {message}")
    raise SystemExit(2)

"""The `ufm` command.

Thin on purpose: parse, call the library, print. JAX is imported by the commands themselves, so
that `ufm --help` answers at once.
"""

import io
import sys
from typing import NoReturn

import tyro

from ufm.cli._complaint import in_one_line
from ufm.cli.certify import Certify
from ufm.cli.solve import Solve
from ufm.cli.version import Version

_DESCRIPTION = (
    "The unconstrained feature model of deep classification: solve it, and prove where each run "
    "ended. `ufm solve` with no arguments tests the claim of Zhou et al. (NeurIPS 2022) for "
    "every loss of the paper."
)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # λ and μ on a terminal that has no Greek
    try:
        with in_one_line():
            command = tyro.extras.subcommand_cli_from_dict(
                {"solve": Solve, "certify": Certify, "version": Version},
                prog="ufm",
                description=_DESCRIPTION,
                args=sys.argv[1:] if argv is None else argv,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
        return command.run()
    except (ValueError, TypeError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> NoReturn:
    print(f"ufm: error: {message}", file=sys.stderr)
    raise SystemExit(2)

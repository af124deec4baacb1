"""`ufm completion`."""

from typing import Literal

import msgspec
import tyro


class Completion(msgspec.Struct, frozen=True):
    """Print a script that makes a shell complete `ufm` commands and options on TAB."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell."""

    def run(self) -> int:
        from ufm.cli import parse  # the parser knows what there is to complete

        parse(["--tyro-write-completion", self.shell, "-"])  # prints, then exits with 0
        return 0

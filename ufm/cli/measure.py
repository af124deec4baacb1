"""`ufm measure`: the collapse of a trained last layer, without its loss and decays."""

import dataclasses
from pathlib import Path
from typing import Literal

from ufm.cli.output.print import say, write
from ufm.cli.parsing.layer_files import LayerFiles

_OUTPUT = ("out", "json")
_NAMES = ("weight", "bias", "features_name", "labels")
_READING = ("features", "classifier", "ignore_index", "first_label", "class_names")


@dataclasses.dataclass(frozen=True)
class Measure(LayerFiles):
    """Measure neural collapse of a trained last layer: NC0-NC5 and what else papers report.

    The files hold W, H, labels and perhaps b, as for ufm certify, which also needs the loss and
    the weight decays. Features are read in blocks, whatever their number.

    ufm measure head.pt feats_0.npy feats_1.npy y.npy
    """

    features: Literal["rows", "columns"] | None = None
    """Layout of H in the file: rows (N x d) or columns (d x N). None: inferred, unless N = d."""
    classifier: Literal["rows", "columns"] | None = None
    """Layout of W in the file: rows (K x d) or columns (d x K). None: inferred, unless K = d."""
    outside: Path | None = None
    """.npy file with features (M x d) of other data, for NC5. None: NC5 is left out."""
    out: Path | None = None
    """Folder for metrics.json and table.tex. None: nothing is written."""
    json: bool = False
    """Print metrics.json on standard output instead of the summary."""

    def run(self) -> int:
        """Read, measure, write, print."""
        from ufm._support.strict_json import dumps
        from ufm.cli.output import measure_output as output
        from ufm.cli.output.progress import reading_progress
        from ufm.cli.parsing.jax import configure
        from ufm.last_layer.files import read_without_decays
        from ufm.last_layer.measure import measure_layer

        configure()
        stored = read_without_decays(
            self.paths(),
            {name: getattr(self, name) for name in _NAMES},
            **{name: getattr(self, name) for name in _READING},
            soft=self.soft_labels,
        )
        with reading_progress() as on_rows:
            found = measure_layer(stored, self._outside(), on_rows)
        text = dumps(output.as_dict(found))
        if self.out is not None:
            self._store({"metrics.json": text, "table.tex": output.table(found)})
        if self.json:
            write(text)
            return 0
        output.show(found, self)
        if self.out is not None:
            say(f"Results: {self.out}")
        return 0

    def _outside(self) -> list:
        from ufm.last_layer.formats.read_files import read_files

        if self.outside is None:
            return []
        return [shard for array in read_files([self.outside]).values() for shard in array.read()]

    def _store(self, files: dict[str, str]) -> None:
        from ufm.runs.run_folder import RunFolder

        assert self.out is not None
        given = {name: str(value) for name, value in vars(self).items() if name not in _OUTPUT}
        folder = RunFolder.open(self.out, given)
        for name, content in files.items():
            folder.add(name, content.encode())

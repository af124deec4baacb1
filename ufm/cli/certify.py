"""`ufm certify`: certify a trained last layer."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ufm.cli.output.print import write
from ufm.cli.parsing.layer_files import LayerFiles

if TYPE_CHECKING:
    from ufm.last_layer.examine import Examination
    from ufm.last_layer.read import Classifier
    from ufm.last_layer.streaming.layer import LargeLayer

#: The options that say how to read the files.
_READING = (
    *("loss", "lam_w", "lam_h", "lam_b", "reduction", "temperature", "weight", "bias"),
    *("features_name", "labels", "class_weights", "sample_weights", "features", "classifier"),
    *("ignore_index", "first_label", "class_names", "soft_labels"),
)


@dataclasses.dataclass(frozen=True)
class Certify(LayerFiles):
    """Certify a trained last layer as a point of the unconstrained feature model.

    The files hold W (K x d, as torch.nn.Linear.weight, or d x K, as the kernel in Flax and Keras),
    H (the features of N samples: N x d, or d x N), labels (N numbers from 0 to K-1 or from 1 to K,
    in any order, names of classes, one-hot, or soft: N x K), and with a bias b (K). They are .npz,
    .safetensors, .pt where PyTorch is installed, and .npy: an array with the name of the file, or
    numbered shards of one, or a folder of those. Usual names of these arrays are found, as
    fc.weight of a state dict, and flags state others. The loss, lam_w, with a bias lam_b, and lam_h
    if you know it, are in an .npz or flags:

    ufm certify head.pt feats_0.npy feats_1.npy y.npy --loss ce --lam-w 5e-4 --lam-b 5e-4

    Decays: lambda/2 |w|^2 is added to the loss, averaged over samples. PyTorch's weight_decay (SGD,
    Adam; not the decoupled one of AdamW) is this lambda; Keras's L2(x) is twice x. The mse loss is
    half the sum of squares over the K outputs: for torch.nn.MSELoss and Keras's, which average over
    outputs, say --reduction mean. Training does not decay the features themselves. Without lam_h,
    the command infers lam_w |W|^2 / |H|^2, its value at every critical point, and the verdict is
    about the problem with that decay.

    Prints the verdict, the gap (f minus a proven lower bound on the minimum), the NC metrics and
    the distance to the nearest predicted minimiser. If the features have a mean, as after a ReLU,
    it also prints them for the centred layer: the same logits with the mean moved into the bias, as
    a point of the problem with a free bias. Writes a folder with certificate.json, arrays.npz,
    table.tex and verify.py, a script that checks the certificate again with NumPy alone. The
    certificate is of the layer as given, or with --centred of the centred layer. The exit code is 0
    for any verdict.
    """

    features: str | None = None
    """Layout of H in the file, rows (N x d) or columns (d x N), its set, or both with a comma:
    nonnegative (after a ReLU), sphere, sphere:RADIUS, ball:RADIUS or budget:MEAN_SQUARE. None: the
    layout is inferred, unless N = d, and weight decay alone."""
    classifier: str | None = None
    """The same of W, rows (K x d) or columns (d x K), and of its rows, which have no set
    nonnegative. A cosine head is --classifier sphere --features sphere --temperature T, with raw
    weights and features, and without their decays."""
    loss: str | None = None
    """ce, ls:ALPHA, fl:GAMMA, mse or mse:SCALE,TARGET. None: read from the file."""
    lam_w: float | None = None
    """Weight decay of W. None: read from the file."""
    lam_h: float | None = None
    """Weight decay of the features. None: read from the file, or else inferred."""
    lam_b: float | None = None
    """Weight decay of the bias, 0 if it had none. None: read from the file."""
    reduction: Literal["mean", "sum", "sum_over_batch_size"] | None = None
    """How the loss was averaged: mean or sum as in PyTorch, sum_over_batch_size as in Keras.
    None: over samples, and for mse half the sum of squares over outputs."""
    temperature: float | None = None
    """T of logits (W h + b) / T. None: read from the file, or else 1."""
    class_weights: str | None = None
    """Name of the weights (K) of classes in the loss. None: class_weights, if there is such."""
    sample_weights: str | None = None
    """Name of the weights (N) of samples in the loss. None: sample_weights, if there is such."""
    centred: bool = False
    """Certify the centred layer: the mean of its features is moved into a free bias."""
    gap_tol: float | None = None
    """Largest gap of a global minimum, relative to f(0) - f*. None: 1e-6."""
    out: Path | None = None
    """Folder for the certificate, which replaces an older certificate there.
    None: next to the first FILE, with the ending .certificate."""
    json: bool = False
    """Print certificate.json on standard output instead of the summary.
    The key "centred" has the same for the centred layer, or null."""

    def run(self) -> int:
        """Read, certify, write, print."""
        from ufm.cli.output.progress import examining_progress, reading_progress
        from ufm.cli.parsing.jax import configure
        from ufm.last_layer.dossier import (
            check_target,
            dossier,
            why_unwritten,
        )
        from ufm.last_layer.examine import examine
        from ufm.last_layer.read import load_classifier

        configure()
        reading = {name: getattr(self, name) for name in _READING}
        with reading_progress() as on_rows, examining_progress() as on_stage:
            layer = load_classifier(self.paths(), **reading, on_rows=on_rows)
            if self.centred:
                layer = self._centred(layer)
            folder = self.file.with_suffix(".certificate") if self.out is None else self.out
            unwritten = why_unwritten(layer)
            if unwritten is None:
                check_target(folder)
            elif self.json or self.out is not None:  # which ask for a certificate
                raise ValueError(f"{unwritten}: leave --out and --json out")
            examination = examine(layer, self.gap_tol, on_rows, on_stage)
        said = self._written(examination, folder) if unwritten is None else {}
        if self.json:
            from ufm._support.strict_json import dumps

            other = examination.centred
            write(dumps(said | {"centred": None if other is None else dossier(other)}))
        else:
            from ufm.cli.output.summary import show

            show(examination, folder, unwritten, self)
        return 0

    def _written(self, examination: "Examination", folder: Path) -> dict[str, Any]:
        from ufm.last_layer.dossier import write_dossier
        from ufm.report.runs.layer_table import layer_table

        return write_dossier(examination, folder, self._source(), layer_table(examination))

    def _centred(self, layer: "Classifier | LargeLayer") -> "Classifier | LargeLayer":
        from ufm.last_layer.centring import centred_layer
        from ufm.last_layer.streaming.layer import LargeLayer, centred_large_layer

        large = isinstance(layer, LargeLayer)
        moved = centred_large_layer(layer) if large else centred_layer(layer)
        if layer.problem.variant is not None:
            raise ValueError("centred features leave the set of features: leave --centred out")
        if moved is None:
            raise ValueError(
                "the features have mean 0, or are all equal: there is nothing to centre, leave "
                "--centred out"
            )
        return moved

    def _source(self) -> dict[str, str]:
        """The names and digests of the files."""
        import hashlib

        source = {}
        paths = [x for path in self.paths() for x in (sorted(path.glob("*.npy")) or [path])]
        for path in paths:
            with open(path, "rb") as stream:
                source[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        return source

"""`ufm certify`: certify a trained last layer."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ufm.cli.output.print import write

if TYPE_CHECKING:
    from ufm.last_layer.read import Classifier


@dataclasses.dataclass(frozen=True)
class Certify:
    """Certify a trained last layer as a point of the unconstrained feature model.

    FILE is an .npz from numpy.savez with W (K x d, as torch.nn.Linear.weight, or d x K, as the
    kernel in Flax and Keras), H (the features of N samples: N x d, or d x N), labels (N numbers
    from 0 to K-1, in any order, or one-hot), lam_w and loss; with a bias also b (K) and lam_b; and
    lam_h if you know it.

    Decays: lambda/2 |w|^2 is added to the loss, averaged over samples. PyTorch's weight_decay (SGD,
    Adam; not the decoupled one of AdamW) is this lambda; Keras's L2(x) is twice x. The mse loss is
    half the sum of squares over the K outputs: torch.nn.MSELoss and Keras's are 2/K of it, so
    multiply their decays by K/2. Training does not decay the features themselves. Without lam_h,
    the command infers lam_w |W|^2 / |H|^2, its value at every critical point, and the verdict is
    about the problem with that decay.

    Prints the verdict, the gap (f minus a proven lower bound on the minimum), the NC metrics and
    the distance to the nearest predicted minimiser. If the features have a mean, as after a ReLU,
    it also prints them for the centred layer: the same logits with the mean moved into the bias, as
    a point of the problem with a free bias. Writes a folder with certificate.json, arrays.npz and
    verify.py, a script that checks the certificate again with NumPy alone. The certificate is of
    the layer as given, or with --centred of the centred layer. The exit code is 0 for any verdict.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The .npz file."""
    loss: str | None = None
    """ce, ls:ALPHA, fl:GAMMA, mse or mse:SCALE,TARGET. None: read from the file."""
    lam_w: float | None = None
    """Weight decay of W. None: read from the file."""
    lam_h: float | None = None
    """Weight decay of the features. None: read from the file, or else inferred."""
    lam_b: float | None = None
    """Weight decay of the bias, 0 if it had none. None: read from the file."""
    features: Literal["rows", "columns"] | None = None
    """Layout of H in the file: rows (N x d) or columns (d x N). None: inferred, unless N = d."""
    classifier: Literal["rows", "columns"] | None = None
    """Layout of W in the file: rows (K x d) or columns (d x K). None: inferred, unless K = d."""
    centred: bool = False
    """Certify the centred layer: the mean of its features is moved into a free bias."""
    gap_tol: float | None = None
    """Largest gap of a global minimum, relative to f(0) - f*. None: 1e-6."""
    out: Path | None = None
    """Folder for the certificate, which replaces an older certificate there.
    None: next to FILE, with the ending .certificate."""
    json: bool = False
    """Print certificate.json on standard output instead of the summary.
    The key "centred" has the same for the centred layer, or null."""

    def run(self) -> int:
        """Read, certify, write, print."""
        from ufm.cli.parsing.jax import configure
        from ufm.last_layer.dossier import check_target, dossier, write_dossier
        from ufm.last_layer.examine import examine
        from ufm.last_layer.read import load_classifier

        configure()
        layer = load_classifier(
            self.file,
            loss=self.loss,
            lam_w=self.lam_w,
            lam_h=self.lam_h,
            lam_b=self.lam_b,
            features=self.features,
            classifier=self.classifier,
        )
        if self.centred:
            layer = self._centred(layer)
        folder = self.file.with_suffix(".certificate") if self.out is None else self.out
        check_target(folder)
        examination = examine(layer, self.gap_tol)
        said = write_dossier(examination, folder, self._source())
        if self.json:
            from ufm._support.strict_json import dumps

            other = examination.centred
            write(dumps(said | {"centred": None if other is None else dossier(other)}))
        else:
            from ufm.cli.output.summary import show

            show(examination, folder, self)
        return 0

    def _centred(self, layer: "Classifier") -> "Classifier":
        from ufm.last_layer.centring import centred_layer

        moved = centred_layer(layer)
        if moved is None:
            raise ValueError(
                f"{self.file} has features of mean 0, or all equal: there is nothing to  centre, "
                "leave --centred out"
            )
        return moved

    def _source(self) -> dict[str, Any]:
        """The name and digest of the certified file."""
        import hashlib

        return {
            "file": self.file.name,
            "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
        }

"""`ufm certify`: what somebody's trained last layer is."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ufm.cli.output.print import write

if TYPE_CHECKING:
    from ufm.last_layer.read import Classifier


@dataclasses.dataclass(frozen=True)
class Certify:
    """Certify a trained last layer: is it a minimum of the unconstrained feature model?

    FILE is an .npz, as numpy.savez writes it, with W (K x d, as torch.nn.Linear.weight, or d x K,
    as the kernel in Flax and Keras), H (the features of N samples: N x d, or d x N), labels
    (N numbers 0..K-1, in any order, or one-hot), lam_w and loss; with a bias also b (K) and lam_b;
    lam_h if it is known.

    Decays: lambda/2 |w|^2 is added to the loss, averaged over samples. PyTorch's weight_decay (SGD,
    Adam; not the decoupled one of AdamW) is this lambda; Keras's L2(x) is twice x. The mse loss is
    half the sum of squares over the K outputs: torch.nn.MSELoss and Keras's are 2/K of it, so with
    those multiply decays by K/2. Nobody decays features themselves: without lam_h it is inferred as
    lam_w |W|^2 / |H|^2, as it is at every critical point, and the verdict is about the problem with
    that decay.

    Prints the verdict, the gap (f minus a proven lower bound on the minimum), the NC metrics and
    the distance to the nearest predicted minimiser: of the layer as given and, where features have
    a mean, as after a ReLU, of the same layer with that mean moved into the bias, which changes no
    logit, as a point of the problem with a free bias. Writes a folder with certificate.json,
    arrays.npz and verify.py, which checks it again with NumPy alone; it is about the layer as given
    unless --centred. The exit code is 0 whatever the verdict.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The .npz file."""
    loss: str | None = None
    """ce, ls:ALPHA, fl:GAMMA, mse or mse:SCALE,TARGET. None: what the file says."""
    lam_w: float | None = None
    """Weight decay of W. None: what the file says."""
    lam_h: float | None = None
    """Weight decay of the features. None: what the file says; if nothing, inferred."""
    lam_b: float | None = None
    """Weight decay of the bias, 0 if it had none. None: what the file says."""
    features: Literal["rows", "columns"] | None = None
    """How the file stores H: rows (N x d) or columns (d x N). None: by its shape, unless N = d."""
    classifier: Literal["rows", "columns"] | None = None
    """How the file stores W: rows (K x d) or columns (d x K). None: by its shape, unless K = d."""
    centred: bool = False
    """Certify the layer with the mean of its features moved into the bias, which is then free."""
    gap_tol: float | None = None
    """Gap, relative to f(0) - f*, that counts as the global minimum. None: 1e-6."""
    out: Path | None = None
    """Folder for the certificate; an older certificate there is replaced.
    None: beside FILE, with the ending .certificate."""
    json: bool = False
    """Print certificate.json on standard output instead of the summary, and under the key
    "centred" the same of the layer with centred features, or null."""

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
                f"{self.file} has features of mean 0, or all the same: there is nothing to centre, "
                "leave --centred out"
            )
        return moved

    def _source(self) -> dict[str, Any]:
        """Which file was certified."""
        import hashlib

        return {
            "file": self.file.name,
            "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
        }

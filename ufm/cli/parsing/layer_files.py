"""The files of a trained last layer as options of commands, and how to read them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class LayerFiles:
    """Files with W, b, H and labels; an option for everything that is inferred otherwise."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file or folder with arrays of the layer."""
    more: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Others, with the arrays that it lacks."""
    weight: str | None = None
    """Name of W in the files. None: W, weight, kernel, or that of the last layer."""
    bias: str | None = None
    """Name of b. None: b, bias, or the one beside the weight."""
    features_name: str | None = None
    """Name of H. None: H, features, feats, embeddings, ..."""
    labels: str | None = None
    """Name of the labels. None: labels, targets or y."""
    ignore_index: int | None = None
    """Label of samples that the loss left out. None: -100."""
    first_label: Literal[0, 1] | None = None
    """Label of the first class. None: 1 if the labels are 1 to K, or else 0."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes in the order of W, if labels are names. None: in sorted order."""

    soft_labels: Literal["targets", "argmax"] | None = None
    """How labels N x K that are not one-hot are read: targets, the loss against each row, or
    argmax, the class of the largest entry. None: targets."""

    def paths(self) -> list[Path]:
        """All files."""
        return [self.file, *self.more]

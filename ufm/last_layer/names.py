"""Find the arrays of a last layer among those of its files, by name and shape.

    weight           W, weight, kernel, or that of a layer in a state dict: fc.weight, head.kernel;
                     or fc_weight, as keywords of numpy.savez have no dots
    bias             b, bias, biases, or the one beside the weight: fc.bias
    features         H, features, feats, embeddings, ...
    labels           labels, targets, y, ...
    class weights    class_weights, cw, or the buffer of a loss in a state dict: criterion.weight
    sample weights   sample_weights, importance
    temperature      temperature, T, tau

The first of these names that occurs is taken, and a name that was given is not looked for.
"""

import re
from collections.abc import Iterable, Mapping

from ufm.last_layer.formats.stored_array import StoredArray

#: Names of arrays by what they are, most usual first, without case, digits and "_" told apart.
_NAMES = {
    "weight": ("W", "weight", "kernel"),
    "bias": ("b", "bias", "biases"),
    "features_name": (
        *("H", "features", "feats", "feature", "feat", "embeddings", "embedding", "emb"),
        *("activations", "penultimate", "representations", "hidden"),
    ),
    "labels": ("labels", "label", "targets", "target", "y", "ys"),
    "class_weights": ("classweights", "classweight", "cw"),
    "sample_weights": ("sampleweights", "sampleweight", "importance"),
    "temperature": ("temperature", "temp", "T", "tau"),
}
_SYMBOL = {"weight": "W", "bias": "b", "features_name": "H"}
_PLURAL = ("labels", "class_weights", "sample_weights")
#: The usual names of a network's last layer, and of its loss.
_HEADS = {
    *("fc", "head", "heads", "classifier", "linear", "lastlinear", "lastlayer", "output", "out"),
    *("logits", "cls", "predictions"),
}
_LOSSES = {"criterion", "loss", "lossfn", "lossfunction", "ce", "crossentropy"}


def _flat(name: str) -> str:
    """Reduce a name to lower-case letters, and leave out that it is of the training set."""
    return re.sub(r"^train(ing)?|train(ing)?$", "", re.sub(r"[^a-z]", "", name.lower()))


class Finder:
    """The arrays of some files by what they are; `notes` say which name was taken for what.

    `given` has the names that a user stated, None for those to be found.
    """

    def __init__(
        self, where: str, arrays: Mapping[str, StoredArray], given: Mapping[str, str | None]
    ) -> None:
        self._where, self._arrays, self._given = where, arrays, given
        self.notes: list[str] = []
        self.taken: set[str] = set()

    def layer(self) -> tuple[StoredArray, StoredArray | None, StoredArray, StoredArray]:
        """W, b or None, H and labels. Raises `ValueError` if one is missing or ambiguous."""
        features = self._required("features_name", self._by_alias("features_name"))
        labels = self._required("labels", self._by_alias("labels"))
        lengths = {length for shape in features.shapes for length in shape}
        weight = self._required("weight", self._weights(lengths))
        return weight, self._bias(weight), features, labels

    def optional(self, what: str) -> StoredArray | None:
        """Class weights, sample weights or a temperature; None if there is none."""
        found = self._by_alias(what)
        if what == "class_weights" and not found:
            found = [
                array
                for name, array in self._arrays.items()
                if "." in name and _ends(name, "weight") and _parent(name) in _LOSSES
            ]
        return self._one(what, found)

    def _required(self, what: str, found: list[StoredArray]) -> StoredArray:
        array = self._one(what, found)
        if array is None:
            symbol = _SYMBOL.get(what, what)
            has = _list(self._arrays) or "nothing"
            raise ValueError(
                f"{self._where} has no {symbol} (it has {has}): add it, or say which it is with "
                f"`{what}` NAME"
            )
        return array

    def _one(self, what: str, found: list[StoredArray]) -> StoredArray | None:
        name = self._given.get(what)
        symbol = _SYMBOL.get(what, what)
        if name is not None:
            if name not in self._arrays:
                raise ValueError(
                    f"{self._where} has no {name} (it has {_list(self._arrays)}): correct `{what}`"
                )
            found = [self._arrays[name]]
        if len(found) > 1:
            raise ValueError(
                f"{symbol} may be {_list({x.name: x for x in found}, ' or ')}: say which "
                f"with `{what}` NAME"
            )
        if not found:
            return None
        self.taken.add(found[0].name)
        if name is None and found[0].name != _NAMES[what][0]:
            verb = "are" if what in _PLURAL else "is"
            self.notes.append(f"{symbol} {verb} {_told(found[0])} (`{what}`)")
        return found[0]

    def _by_alias(self, what: str) -> list[StoredArray]:
        """The arrays with the first of the names that occurs."""
        for alias in _NAMES[what]:
            exact = [array for name, array in self._arrays.items() if name == alias]
            # Not 0.weight, which a state dict of a sequence of layers has.
            alike = [
                array
                for name, array in self._arrays.items()
                if "." not in name and _flat(name) == _flat(alias)
            ]
            if exact or alike:
                return exact or alike
        if what in ("weight", "bias"):
            return []  # which a state dict has for every layer
        flat = set(map(_flat, _NAMES[what]))
        return [
            array
            for name, array in self._arrays.items()
            if "." in name and _flat(name.rpartition(".")[2]) in flat
        ]

    def _weights(self, lengths: set[int]) -> list[StoredArray]:
        """W itself, or the matrices in a state dict that may be the last layer."""
        found = self._by_alias("weight")
        if found:
            return found
        matrices = [
            array
            for name, array in self._arrays.items()
            if _ends(name, "weight", "kernel", "w") and name not in self.taken
            if len(array.shapes) == 1 and len(array.shapes[0]) == 2
        ]
        # The last layer takes the features: (K, d) in PyTorch, (d, K) in Flax.
        fitting = [array for array in matrices if _inputs(array) in lengths]
        if len(fitting) > 1:
            heads = [array for array in fitting if _parent(array.name) in _HEADS]
            fitting = heads or fitting
        return fitting or matrices

    def _bias(self, weight: StoredArray) -> StoredArray | None:
        above, dot, _ = _dotted(weight.name).rpartition(".")
        beside = [f"{above}{dot}{last}" for last in ("bias", "b")]
        found = [array for name, array in self._arrays.items() if _dotted(name) in beside]
        if not found and "." not in weight.name:
            found = self._by_alias("bias")
        return self._one("bias", found)


def _dotted(name: str) -> str:
    """The name in a state dict: fc.weight of fc_weight, but not of class_weight."""
    if "." in name or _flat(name) in _NAMES["class_weights"] + _NAMES["sample_weights"]:
        return name
    return re.sub(r"_(weight|kernel|bias)$", r".\1", name, flags=re.IGNORECASE)


def _ends(name: str, *words: str) -> bool:
    _, dot, last = _dotted(name).rpartition(".")
    return bool(dot) and last.lower() in words


def _inputs(array: StoredArray) -> int:
    """The number of inputs of a layer, by the convention of its framework."""
    rows, columns = array.shapes[0]
    return rows if array.name.endswith("kernel") else columns


def _parent(name: str) -> str:
    """The layer's own name, without numbers: classifier of module.classifier.1.weight."""
    parts = [_flat(part) for part in _dotted(name).split(".")[:-1]]
    return next((part for part in reversed(parts) if part), "")


def _told(array: StoredArray) -> str:
    size = " + ".join(" x ".join(map(str, shape)) for shape in array.shapes[:3])
    more = f" + ... ({len(array.shapes)} shards)" if len(array.shapes) > 3 else ""
    return f"{array.name} ({size}{more})" if size else array.name


def _list(arrays: Mapping[str, StoredArray], between: str = ", ") -> str:
    told = [_told(arrays[name]) for name in sorted(arrays)] if between != ", " else sorted(arrays)
    return between.join(told[:8]) + (f"{between}{len(told) - 8} more" if len(told) > 8 else "")


# Arrays that nobody asked for ----------------------------------------------------------------

_WEIGHTED = (
    "weights in the loss define a different problem: if they multiply the loss of each class, give "
    "`class_weights` NAME, or of each sample, `sample_weights` NAME; else save the file without it"
)
_SCALED = (
    "scaled logits belong to a different W: give `temperature` T for logits (W H + b) / T, 1/s for "
    "a factor s, and leave it out"
)
_SHIFTED = (
    "a shift of the logits in the loss defines a different problem, which is not certified here; "
    "save the file without it only if training did not use it"
)
_SMOOTHED = (
    "if it is a parameter of the loss, it belongs in loss, as in 'ls:0.1' or 'fl:2'; leave it out"
)
_MASKED = "drop the samples that the loss did not see from labels and H, and leave it out"
_COSINE = (
    "for normalised weights or features give `classifier` sphere, `features` sphere, and leave it "
    "out"
)

#: Arrays that make the layer a point of a different problem, by their name or a part of it.
_BY_PART = {
    **dict.fromkeys(("weight", "freq"), _WEIGHTED),
    **dict.fromkeys(("temperature", "logitscale"), _SCALED),
    **dict.fromkeys(("logitadjust", "logitbias", "logitshift", "margin"), _SHIFTED),
    "smoothing": _SMOOTHED,
    "cosine": _COSINE,
}
_BY_NAME = {
    **dict.fromkeys(("cw", "importance"), _WEIGHTED),
    **dict.fromkeys(("t", "tau", "temp", "s", "scale"), _SCALED),
    **dict.fromkeys(("m", "prior", "logprior", "classprior"), _SHIFTED),
    **dict.fromkeys(("gamma", "alpha", "ls", "smooth", "eps", "epsilon", "mixup"), _SMOOTHED),
    "mask": _MASKED,
    "reduction": "give `reduction`, and leave it out",
}
#: Other names of decays, which have too many meanings to be read.
_DECAYS = {
    **{"weightdecay": "lam_w", "wd": "lam_w", "lambw": "lam_w", "lambh": "lam_h", "lambb": "lam_b"},
    **{"lamw": "lam_w", "lamh": "lam_h", "lamb": "lam_b"},
    **{"lambdaw": "lam_w", "lambdah": "lam_h", "lambdab": "lam_b"},
}


def check_beside(where: str, others: Iterable[str], present: Iterable[str]) -> None:
    """Raise `ValueError` if an array that is not read makes the layer one of another problem.

    `present` are the decays that are known. Parameters of a network's other layers, whose names
    have dots, are of no concern.
    """
    for name in others:
        flat = re.sub(r"[^a-z0-9]", "", name.lower())
        decay = _DECAYS.get(flat)
        if decay is not None:
            if decay not in present:
                raise ValueError(
                    f"{where} has {name}, which is not read: save it as {decay}, or give `{decay}`"
                )
            continue
        found = _BY_NAME.get(flat) or next((x for part, x in _BY_PART.items() if part in flat), "")
        if found and "." not in name:
            raise ValueError(f"{where} has {name} beside the layer: {found}")

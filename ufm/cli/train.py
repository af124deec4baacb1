"""`ufm train`: train networks on images, and measure the collapse of their last layers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import tyro

from ufm._support.text import command
from ufm.cli.output.print import tell, write
from ufm.cli.parsing.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from ufm.networks import Choice, ImageData, TrainConfig, TrainResult
    from ufm.runs.run_folder import RunFolder


class Train(Options, frozen=True, kw_only=True):
    """Train a network under every loss, and measure how its last layer collapses.

    Stochastic gradients as in Zhou et al. (2022): momentum 0.9, weight decay 5e-4 on all
    parameters, the learning rate divided by ten after 3/7 and 5/7 of the epochs. Prints for every
    loss the accuracies, and NC1-NC3 of the features of all training images after the first and the
    last epoch. The mse losses average over the K outputs, without 1/2.

    Writes a folder with a .json and a .csv of the history for every loss, an .npz of the last
    layer for ufm certify, a checkpoint, table.tex and, with --figures, figures. Run again with the
    same folder to continue after an interruption, with the same bits as without one. Ctrl-C stops
    after the current epoch.

    The exit code is 0 if every loss has a trained network, and 1 if training diverged or the
    network died under any loss. The other losses are trained, stored and printed nevertheless.
    """

    data: str = "digits"
    """digits, fashion-mnist (Debian package dataset-fashion-mnist), or the path of an .npz.
    The .npz has images (N x h x w, N x h x w x c or N x c x h x w) and labels, and optionally
    test_images and test_labels."""
    per_class: int | None = None
    """n, training images in each class, chosen by the seed. None: the size of the smallest."""
    losses: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LOSS ...")] = (
        "ce",
        "ls:0.05",
        "fl:3",
        "mse:1,15",
    )
    """Losses: ce, ls:ALPHA, fl:GAMMA, mse:SCALE,TARGET (mse:1,15 has targets 15 one-hot)."""
    model: Literal["mlp", "resnet"] = "mlp"
    """The network: a multilayer perceptron, or a small residual network."""
    width: float | None = None
    """Units per layer of the mlp, or the resnet's factor of 16, 32, 64 channels. None: 128, 1."""
    depth: int | None = None
    """Hidden layers of the mlp, or blocks per stage of the resnet. None: 3, 1."""
    norm: Literal["batch", "group", "none"] | None = None
    """Normalisation. None: batch for the mlp, group for the resnet."""
    epochs: int = 300
    """Passes through the training images."""
    learning_rate: float | None = None
    """The initial learning rate for all losses.
    None: for each loss the best of 0.1, 0.03, ... 0.0003 on a validation split, after a tenth of
    the epochs (10 to 20)."""
    batch_size: int | None = None
    """Images in a batch. None: 128, or a twentieth of a small data set."""
    weight_decay: float = 5e-4
    """Decay lambda of all parameters: lambda/2 |w|^2 is added to the loss."""
    momentum: float = 0.9
    """Momentum of the stochastic gradients."""
    measurements: int = 20
    """Number of measurements of all training images, evenly spaced in the logarithm of the epoch.
    Further ones are made before and after each fall of the learning rate."""
    hessian: bool = False
    """Compute the Hessian of the training objective at the end.
    Prints both ends of its spectrum with error bounds, its trace, and the share of negative
    eigenvalues. Takes minutes for a hundred thousand parameters."""
    seed: int = 0
    """Seed of the initial weights, the order of the batches, and the choice of images."""
    out: Path | None = None
    """Folder for the results. Run again with the same folder to continue an interrupted job.
    None: a new folder in ufm-results."""
    figures: bool = False
    """Draw collapse along training, the last layer beside the model's minimiser, and, with
    --hessian, the density of the Hessian beside the model's, into the folder's figures/. A finished
    folder is drawn without training again."""
    json: bool = False
    """Print the results as JSON on standard output instead of the table."""

    def run(self) -> int:
        """Train loss by loss; an interruption loses no training."""
        from ufm.cli.output.train_output import failures
        from ufm.cli.parsing.jax import configure
        from ufm.cli.parsing.stop import stop_on_signal
        from ufm.runs.run_folder import RunFolder

        configure()
        data, configs = self._checked()
        results: list[dict[str, Any]] = []
        with stop_on_signal("this epoch") as stopped:
            folder = RunFolder.open(self.out, self.configuration(), "train")
            _check_images(folder, data)
            for name, config in configs.items():
                entry = folder.load(name)
                if entry is not None:
                    tell(f"{name}: already in {folder.path}")
                else:
                    entry = self._train(config, data, folder, stopped)
                if entry is None:
                    return self._interrupted(len(results), len(configs), folder)
                results.append(entry)
        folder.finish(results)
        if self.json:
            write(folder.as_json(results))
        else:
            from ufm.cli.output.train_output import show

            show(data, next(iter(configs.values())), results, folder.path)
        self._report(results, folder)
        failed = failures(results)
        if failed:
            tell(failed)
        return 1 if failed else 0

    def _checked(self) -> "tuple[ImageData, dict[str, TrainConfig]]":
        """Data, and a run for each loss. All invalid options are refused here."""
        from ufm.networks import TrainConfig, load_data, objective_specs, validation_split
        from ufm.networks.training.learning_rate import VALIDATION_SHARE

        names = msgspec.structs.asdict(self)
        given = {name: names[name] for name in TrainConfig.__struct_fields__ if name in names}
        if self.learning_rate is None:
            del given["learning_rate"]
        with self.refusing():
            # A folder of version 0.1 has its losses as they were written then.
            stored = self.config is not None and self.config.suffix == ".json"
            specs = objective_specs(self.losses, stored=stored)
            configs = {spec: TrainConfig(loss=spec, **given) for spec in specs}
            data = load_data(self.data, self.per_class, self.seed)
            next(iter(configs.values())).batch(len(data.labels))
            if self.learning_rate is None:
                validation_split(data, VALIDATION_SHARE)
        return data, configs

    def _train(
        self,
        config: "TrainConfig",
        data: "ImageData",
        folder: "RunFolder",
        stopped: "Callable[[], bool]",
    ) -> dict[str, Any] | None:
        """Store and return the finished entry of a loss; None if it was interrupted."""
        from ufm.cli.output.progress import training_progress
        from ufm.cli.output.train_output import entry, store
        from ufm.networks import TrainStatus, beside_model, train
        from ufm.runs.run_folder import slug

        label = config.objective(data.num_classes).loss.label()
        choice = None
        if self.learning_rate is None:
            choice = self._choose(label, config, data, folder, stopped)
            if choice is None:
                return None
            config = msgspec.structs.replace(config, learning_rate=choice.learning_rate)
        with training_progress(label) as on_epoch:
            result = train(
                config,
                data,
                measure=beside_model,
                on_epoch=on_epoch,
                should_stop=stopped,
                checkpoint=folder.path / f"{slug(config.loss)}.checkpoint.npz",
            )
        if result.status is TrainStatus.STOPPED:
            return None
        found = entry(result, data, choice)
        if self.hessian and result.layer is not None:
            found["hessian"] = self._curvature(label, result, data)
        store(folder, result, found)
        return found

    def _choose(
        self,
        label: str,
        config: "TrainConfig",
        data: "ImageData",
        folder: "RunFolder",
        stopped: "Callable[[], bool]",
    ) -> "Choice | None":
        """The learning rate by the rule, or the one chosen before; None if interrupted."""
        from ufm.cli.output.progress import progress
        from ufm.networks import CANDIDATES, Choice, choose_learning_rate
        from ufm.runs.run_folder import slug

        file = f"{slug(config.loss)}.learning-rate.json"
        path = folder.path / file
        if path.exists():
            try:
                return msgspec.json.decode(path.read_bytes(), type=Choice)
            except (msgspec.DecodeError, OSError) as error:
                raise ValueError(f"{path} cannot be read ({error}): remove it") from None
        with progress(label, len(CANDIDATES), "learning rates") as advance:
            choice = choose_learning_rate(
                config, data, on_trial=lambda _: advance(), should_stop=stopped
            )
        if choice is not None:
            folder.add(file, msgspec.json.encode(choice))
        return choice

    def _curvature(self, label: str, result: "TrainResult", data: "ImageData") -> dict[str, Any]:
        import jax

        from ufm.cli.output.progress import waiting
        from ufm.cli.output.train_report import curvature_entry
        from ufm.networks import trained_curvature

        with waiting(f"{label}: Hessian"):
            # As many of the largest as there are classes: K − 1 of them are outliers.
            found = trained_curvature(
                result, data, jax.random.key(self.seed), count=data.num_classes
            )
            return curvature_entry(found, result, data.num_classes)

    def _report(self, results: list[dict[str, Any]], folder: "RunFolder") -> None:
        """table.tex, and the figures. The numbers are printed and stored by now."""
        from ufm.cli.output.progress import waiting
        from ufm.cli.output.train_report import figures, table

        folder.add("table.tex", table(results))
        if not self.figures:
            return
        with waiting("drawing figures"):
            for name, content in figures(results):
                folder.add(f"figures/{name}", content)

    def _interrupted(self, done: int, total: int, folder: "RunFolder") -> int:
        config = folder.path / "config.json"
        again = command("ufm", "train", "--config", config, "--out", folder.path)
        tell(f"Interrupted: {done} of {total} losses are done. Continue with: {again}")
        return 130


def _check_images(folder: "RunFolder", data: "ImageData") -> None:
    """Raise `ValueError` if the folder was begun with other images; else record these."""
    name, mine = "data.sha256", data.fingerprint()
    path = folder.path / name
    if not path.exists():
        folder.add(name, f"{mine}\n".encode())
    elif path.read_text(encoding="utf-8").strip() != mine:
        raise ValueError(
            f"{folder.path} was begun with other images than {data.name} has now: choose another "
            "`out`"
        )

"""A network trained by PyTorch: its checkpoint in every format, and the objective that it had."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from ufm import examine, load_classifier, objective

torch = pytest.importorskip(
    "torch", reason="PyTorch is not a dependency: this compares with it where it is installed"
)

DECAY = 5e-3
SETTINGS = {"loss": "ce", "lam_w": DECAY, "lam_b": DECAY}


@pytest.fixture(scope="module")
def trained():
    """A network and its features and labels, after training with weight decay."""
    torch.manual_seed(0)
    y = torch.arange(3).repeat_interleave(8)[torch.randperm(24)]
    x = 2.0 * torch.randn(3, 5)[y] + 0.3 * torch.randn(24, 5)
    body = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    network = torch.nn.Sequential()
    network.add_module("body", body)
    network.add_module("fc", torch.nn.Linear(4, 3))
    descent = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=DECAY)
    for _ in range(300):
        descent.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        descent.step()
    return network, body(x).detach(), y


def write_checkpoint(folder, state, H, y):
    content = {"epoch": 300, "model": state, "data": {"features": H, "targets": y}}
    torch.save(content, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def write_parts(folder, state, H, y):
    torch.save(state, folder / "head.pt")
    torch.save(y, folder / "y.pt")
    for i, part in enumerate(H.numpy().reshape(2, 12, 4)):
        np.save(folder / f"feats_{i}.npy", part)
    return [folder / name for name in ("head.pt", "feats_0.npy", "feats_1.npy", "y.pt")]


def write_tensors(folder, state, H, y):
    arrays = {name: tensor.numpy() for name, tensor in (state | {"h": H, "labels": y}).items()}
    save_file(arrays, folder / "all.safetensors")
    return folder / "all.safetensors"


def write_arrays(folder, state, H, y):
    W, b = state["fc.weight"].numpy(), state["fc.bias"].numpy()
    np.savez(folder / "layer.npz", W=W, b=b, H=H.numpy(), labels=y.numpy())
    return folder / "layer.npz"


def test_four_formats_give_one_verdict_and_the_same_numbers(trained, tmp_path):
    network, H, y = trained
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    found = []
    for write in (write_checkpoint, write_parts, write_tensors, write_arrays):
        layer = load_classifier(write(tmp_path, state, H, y), **SETTINGS)
        found.append((layer, examine(layer)))
    for layer, examination in found[1:]:
        np.testing.assert_array_equal(layer.params.W, found[0][0].params.W)
        np.testing.assert_array_equal(layer.params.H, found[0][0].params.H)
        first, other = found[0][1].certificate, examination.certificate
        for name in ("verdict", "value", "lower_bound", "grad_norm", "dual_norm"):
            assert getattr(other, name) == getattr(first, name), name
    expected = torch.nn.functional.cross_entropy(
        H.double() @ state["fc.weight"].double().T + state["fc.bias"].double(), y
    )
    layer = found[0][0]
    squares = DECAY * sum(float((state[f"fc.{x}"].double() ** 2).sum()) for x in ("weight", "bias"))
    squares += float(layer.problem.lam_h) * float((H.double() ** 2).sum())
    assert float(objective(layer.problem, layer.params)) == pytest.approx(
        expected.item() + squares / 2, rel=1e-12
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", ["ce", "weighted ce", "ls:0.1", "mse"])
def test_the_objective_is_that_of_pytorch(loss, reduction, trained, tmp_path):
    """f is what PyTorch minimises, divided by a number, with the decays divided alike."""
    network, H, y = trained
    W, b = (x.detach() for x in (network.fc.weight, network.fc.bias))
    w = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    V = H.double() @ W.double().T + b.double()
    one_hot = torch.nn.functional.one_hot(y, 3).double()
    if loss == "mse":
        fit = torch.nn.functional.mse_loss(V, one_hot, reduction=reduction)
    else:
        fit = torch.nn.functional.cross_entropy(
            *(V, y),
            weight=w if "weighted" in loss else None,
            label_smoothing=0.1 if loss.startswith("ls") else 0.0,
            reduction=reduction,
        )
    weights = {"class_weights": w} if "weighted" in loss else {}
    torch.save({"W": W, "b": b, "H": H, "labels": y} | weights, tmp_path / "layer.pt")
    layer = load_classifier(
        tmp_path / "layer.pt", loss=loss.split()[-1], lam_w=DECAY, lam_b=DECAY, lam_h=1e-3,
        reduction=reduction,
    )  # fmt: skip
    size = DECAY / float(layer.problem.lam_w)
    penalty = DECAY * float((W.double() ** 2).sum() + (b.double() ** 2).sum())
    penalty += 1e-3 * float((H.double() ** 2).sum())
    found = size * float(objective(layer.problem, layer.params))
    assert found == pytest.approx(fit.item() + penalty / 2, rel=1e-12)


def test_tensors_of_bfloat16_are_read_as_they_are(trained, tmp_path):
    network, H, y = trained
    state = {name: x.detach().bfloat16() for name, x in network.state_dict().items()}
    layer = load_classifier(write_checkpoint(tmp_path, state, H.half(), y), **SETTINGS)
    np.testing.assert_array_equal(layer.params.W, state["fc.weight"].float().numpy())
    np.testing.assert_array_equal(layer.params.H, H.half().numpy()[layer.order].T)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda network: network, "holds Python objects (a pickle), which are never loaded: save"),
        (lambda _: {"W": [torch.ones(2), torch.ones(3)]}, "has no H (it has W)"),
        (lambda _: {"W": torch.ones(3, 4).to_sparse(), "H": torch.ones(6, 4),
                    "labels": torch.arange(6) % 3}, "W in {} is not an array of numbers"),
    ],
)  # fmt: skip
def test_checkpoints_of_other_things_are_refused_in_one_line(content, message, trained, tmp_path):
    path = tmp_path / "x.pt"
    torch.save(content(trained[0]), path)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared
        load_classifier(path, loss="ce", lam_w=1.0)
    assert message.replace("{}", str(path)) in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_and_legacy_checkpoints_are_refused_in_one_line(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"W": torch.ones(300, 4)}, path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="is damaged or truncated: write it again"):
        load_classifier(path, **SETTINGS)
    torch.save({"W": torch.ones(3, 4)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="is a pickle, which is never loaded"):
        load_classifier(path, **SETTINGS)

"""A last layer for tests of readers: its arrays, f by NumPy, and files of every format."""

from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

#: K = 3, d = 4, N = 6, not ordered by class.
LABELS = np.array([2, 0, 1, 0, 2, 1])
RNG = np.random.default_rng(0)
W, ROWS, B = RNG.normal(size=(3, 4)), RNG.normal(size=(6, 4)), RNG.normal(size=3)
DECAYS = {"lam_w": 2e-2, "lam_h": 5e-3, "lam_b": 1e-2}
SETTINGS = {"loss": "ce", **DECAYS}


def sample_losses(W=W, H=ROWS, b=B, labels=LABELS) -> np.ndarray:
    """The cross-entropy of each sample."""
    V = H @ W.T + b
    return np.logaddexp.reduce(V, axis=1) - V[np.arange(len(labels)), labels]


def penalty(W=W, H=ROWS, b=B, weights=1.0) -> float:
    """Σ λ/2 ‖·‖², with the squares of features times weights (N,)."""
    squares = 2e-2 * np.sum(W**2) + 1e-2 * np.sum(b**2)
    return 0.5 * (squares + 5e-3 * np.sum(weights * np.sum(H**2, axis=1)))


def plain_value(**arrays) -> float:
    """f with W (K, d), rows of H, and b."""
    labels = arrays.pop("labels", LABELS)
    return float(np.mean(sample_losses(**arrays, labels=labels))) + penalty(**arrays)


def write_npz(folder: Path, dtype) -> list[Path]:
    narrow = np.float32 if dtype == ml_dtypes.bfloat16 else dtype  # which an .npz does not have
    arrays = {"W": W.astype(dtype).astype(narrow), "H": ROWS.astype(dtype).astype(narrow)}
    np.savez(folder / "layer.npz", **arrays, b=B, labels=LABELS)
    return [folder / "layer.npz"]


def write_shards(folder: Path, dtype) -> list[Path]:
    """Features in three shards, without an ending that tells."""
    narrow = np.float32 if dtype == ml_dtypes.bfloat16 else dtype
    (folder / "feats").mkdir()
    for i, part in enumerate(np.split(ROWS.astype(dtype).astype(narrow), [1, 4])):
        np.save(folder / "feats" / f"{i:05d}-of-00003.npy", part)
    np.save(folder / "y.npy", LABELS[:, None])
    np.save(folder / "kernel.npy", W.astype(dtype).astype(narrow).T)
    np.save(folder / "bias.npy", B)
    return [folder / "feats", *(folder / f"{name}.npy" for name in ("y", "kernel", "bias"))]


def write_safetensors(folder: Path, dtype) -> list[Path]:
    """A state dict of two layers, and the features of the first."""
    tensors = {
        "body.0.weight": np.ones((4, 5), np.float32),
        "body.0.bias": np.ones(4, np.float32),
        "module.fc.weight": W.astype(dtype),
        "module.fc.bias": B,
    }
    save_file(tensors, folder / "head.bin")
    save_file({"features": ROWS.astype(dtype), "targets": LABELS}, folder / "data.safetensors")
    return [folder / "head.bin", folder / "data.safetensors"]


WRITERS = {"npz": write_npz, "npy": write_shards, "safetensors": write_safetensors}

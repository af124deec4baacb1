"""The supervised contrastive loss from its definition: double loops, and a semidefinite program."""

import cvxpy as cp
import numpy as np


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def unit(H):
    return H / np.linalg.norm(H, axis=0)


def loss(H, counts, tau, batches=None):
    """Khosla et al. (2020), "out": the mean over batches of the mean over anchors."""
    labels, means = labels_of(counts), []
    for batch in batches or [range(len(labels))]:
        rows = []
        for i in batch:
            positives = [p for p in batch if p != i and labels[p] == labels[i]]
            if positives:
                total = sum(np.exp(H[:, i] @ H[:, a] / tau) for a in batch if a != i)
                rows.append(np.mean([np.log(total) - H[:, i] @ H[:, p] / tau for p in positives]))
        means.append(np.mean(rows))
    return np.mean(means)


def along_geodesic(H, B, t):
    """The point at time t of the great circles through unit columns with velocities B ⟂ H."""
    speeds = np.linalg.norm(B, axis=0)
    return H * np.cos(t * speeds) + B / np.where(speeds > 0, speeds, 1) * np.sin(t * speeds)


def semidefinite_minimum(counts, tau, batches=None, collapsed=False):
    """f* over X ⪰ 0, diag X = 1, all N columns, and a minimiser; with NC1 if `collapsed`."""
    labels = labels_of(counts)
    size = len(counts) if collapsed else len(labels)
    column = labels if collapsed else np.arange(len(labels))
    X = cp.Variable((size, size), symmetric=True)
    means = []
    for batch in batches or [range(len(labels))]:
        rows = []
        for i in batch:
            positives = [p for p in batch if p != i and labels[p] == labels[i]]
            if positives:
                others = cp.hstack([X[column[i], column[a]] / tau for a in batch if a != i])
                mean = sum(X[column[i], column[p]] for p in positives) / (tau * len(positives))
                rows.append(cp.log_sum_exp(others) - mean)
        means.append(sum(rows) / len(rows))
    objective = cp.Minimize(sum(means) / len(means))
    problem = cp.Problem(objective, [X >> 0, cp.diag(X) == 1])
    tight = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    problem.solve(solver=cp.CLARABEL, **tight)
    return problem.value, X.value

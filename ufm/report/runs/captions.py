"""Captions of the figures of a run, for symbols, lines and marks that the figure does not explain.

They are LaTeX without packages; `described_in_tex` gives sizes and decays.
"""

from ufm.model.constraints import Fixed
from ufm.model.problem import Problem
from ufm.report.runs.latex import described_in_tex

#: The definition of f, for figures outside a text.
OBJECTIVE = (
    r"$f(W,H,b)=\frac1N\sum_i L(Wh_i+b,y_i)+\frac{\lambda_W}2\|W\|_F^2"
    r"+\frac{\lambda_H}2\|H\|_F^2+\frac{\lambda_b}2\|b\|^2$"
)
#: The same of a contrastive problem, which has no classifier.
_CONTRASTIVE = (
    r"$f(H)$ is the mean over samples $i$ with positives $P(i)$ of "
    r"$\log\sum_{a\ne i}e^{h_i^\top h_a/\tau}-\frac1{|P(i)|}\sum_{p\in P(i)}h_i^\top h_p/\tau$"
)
#: NC1–NC3, for captions.
METRICS = (
    r"NC1 is $\mathrm{tr}(\Sigma_W\Sigma_B^\dagger)/K$, the variability within classes; NC2 and "
    r"NC3 are the distances, after scaling to norm 1, of $WW^\top$ and of $W\tilde H$ from "
    r"$P/\sqrt{K-1}$, $P=I-11^\top/K$, as at a simplex ETF; $\tilde H$ has the centred class "
    r"means as columns"
)

CAPTIONS = {
    "convergence": (
        r"Convergence from random starts: {gap} (top) and $\|\nabla f\|$ (bottom) against "
        r"passes over the data. Thin: every run. Thick: their median, as long as half of the runs "
        r"go on; its end is marked. Shaded: rounding, $4\varepsilon|f^\star|$ and the noise of "
        r"$\nabla f$ at the minimiser; values below are drawn at the bound."
    ),
    "collapse": (
        "Neural collapse along the run with the lowest $f$, against passes over the data. "
        f"{METRICS}. Shaded: rounding; values below are drawn at the bound. A cross marks where a "
        r"run comes within $10^{-3}$ of the origin, where no metric is defined."
    ),
    "gram": (
        r"Angles at the end of the run with the lowest $f$: the Gram matrices $G=WW^\top$ and "
        r"$G=\tilde H^\top\!\tilde H$, scaled to mean diagonal 1, less those of the minimiser, "
        r"$G^\star$; $\tilde H$ has the centred class means as columns. A simplex ETF has "
        r"$-1/(K-1)$ off the diagonal."
    ),
    "angles": (
        r"Angles at the end of the run with the lowest $f$: the number of pairs of classes by the "
        r"cosine of their rows of $W$ (left) and of their class means $\bar h_k$, not centred "
        r"(right). Outlined: a minimiser. Lines: a simplex ETF, $-1/(K-1)$, and orthogonal "
        r"vectors, whose centred means are a simplex ETF, too."
    ),
    "singular-values": (
        r"Singular values at the end of the run with the lowest $f$. Top: of the logits $Z=WH$, on "
        r"rings at those of the minimiser. Bottom: of $G=\nabla g(Z)$, $g$ the average loss, over "
        r"$\mu=\sqrt{\lambda_W\lambda_H}$: for a convex loss none above 1 proves a global minimum. "
        r"Losses stand side by side."
    ),
    "features": (
        r"Features, class means and rows of $W$ at four steps of the run with the lowest $f$, in "
        r"the span of the class means at its end. Rows of $W$ are scaled, all by one number, to "
        r"the class means' average length."
    ),
}


def caption(name: str, problem: Problem, is_exact: bool = True) -> str:
    """The caption of a figure; `problem` is that of any of its losses.

    `is_exact` says whether f* is proven for all of them.
    """
    gap = (
        r"$f-f^\star$"
        if is_exact
        else r"$f$ less the best value known, not proven to be $f^\star$,"
    )
    said = CAPTIONS[name].replace("{gap}", gap)
    return f"{said} {objective_in_tex(problem)} with {described_in_tex(problem)}."


def objective_in_tex(problem: Problem) -> str:
    """The definition of f for a problem, a variant or plain."""
    if not problem.num_outputs:
        return _CONTRASTIVE
    count = len(problem.hidden_dims)
    layers, listed = ("", ()) if not count else ("F_1", ("F_1",))
    if count > 1:
        layers, listed = rf"F_1\cdots F_{count}", ("F_1", r"\ldots", f"F_{count}")
    free = () if isinstance(problem.classifier, Fixed) else ("W",)
    variables = ",".join((*free, *listed, "H", *(("b",) if problem.has_bias else ())))
    cooled = "" if problem.temperature is None else r"/\tau"
    logits = rf"W{layers}h_i{cooled}" + ("+b" if problem.has_bias else "")
    decays = ((problem.lam_w, "W", r"\|W\|_F^2"), (problem.lam_h, "H", r"\|H\|_F^2"))
    terms = [
        rf"\frac{{\lambda_{name}}}2{norm}" for decay, name, norm in decays if decay is not None
    ]
    if count:
        terms.append(r"\sum_l\frac{\lambda_l}2\|F_l\|_F^2")
    if problem.has_bias:
        terms.append(r"\frac{\lambda_b}2\|b\|^2")
    return rf"$f({variables})=" + "+".join([rf"\frac1N\sum_i L({logits},y_i)", *terms]) + "$"

"""The examples below the options in `ufm --help` and in `ufm NAME --help`."""

_GENERAL = (
    ("ufm solve", "the main job: every loss, 20 starts, a verdict for each"),
    ("ufm solve --help", "its options"),
    ("ufm cite", "BibTeX of the papers behind it"),
)
_EXAMPLES = {
    "solve": (
        ("ufm solve", "the four losses of the paper; K=10, d=16, n=100"),
        ("ufm solve --losses ce fl:2 --starts 5", "two losses, five starts each"),
        ("ufm solve --num-classes 3 --dim 2 --figures", "features seen in the plane"),
        ("ufm solve --losses mse --lam-b None", "without a bias"),
        ("ufm solve --counts 100 100 20 5 --losses ce ls", "imbalanced classes"),
        ("ufm solve --config mine.toml --starts 50", "options from a file, one of them changed"),
    ),
    "certify": (
        ("ufm certify last_layer.npz", "with lam_w and loss in the file"),
        ("ufm certify last_layer.npz --loss ls:0.1 --lam-w 5e-4", "options that the file lacks"),
        ("ufm certify head.pt feats y.npy --loss ce --lam-w 5e-4 --lam-b 5e-4", "several files"),
        ("ufm certify last_layer.npz --centred", "features after a ReLU"),
        ("ufm certify run/ce.npz --out proof", "a stored solution; writes the folder proof"),
        ("ufm certify last_layer.npz --json", "for a script"),
    ),
    "measure": (
        ("ufm measure last_layer.npz", "W, H and labels in one file; neither loss nor decays"),
        ("ufm measure head.pt feats y.npy", "a folder of numbered shards of features"),
        ("ufm measure last_layer.npz --outside other.npy", "features of other data, for NC5"),
        ("ufm measure last_layer.npz --out collapse", "metrics.json and table.tex"),
    ),
    "check-loss": (
        ("ufm check-loss gce:0.7", "a loss of the library at K=10"),
        ("ufm check-loss mine:loss", "your own: the function loss in mine.py"),
        ("ufm check-loss mae --lam-b 0 --decays 0.15 0.2", "a free bias, where classes die"),
        ("ufm check-loss fl:3 --num-classes 100 --starts 0 --json", "numbers for a script"),
        ("ufm check-loss sce --out sce --figures", "profile, convexity and phases"),
    ),
    "spectrum": (
        ("ufm spectrum", "at the global minimum of the four losses, in closed form"),
        ("ufm spectrum --at origin --losses ce mse", "at a strict saddle"),
        ("ufm spectrum --counts 100 100 20 5 --dim 6", "imbalanced classes"),
        ("ufm spectrum --num-classes 1000 --dim 2048 --per-class 1300", "2.7 billion dimensions"),
        ("ufm spectrum run/ce.npz", "at a solution in a folder of results"),
        ("ufm spectrum --along run --per-class 20 --losses ce", "from a random start to the end"),
        ("ufm spectrum --out spectra --figures", "numbers and figures as files"),
    ),
    "landscape": (
        ("ufm landscape", "critical points of the four losses of the paper; K=10, d=11"),
        ("ufm landscape --losses ls:0.1 --num-classes 4 --dim 5 --points", "few, all printed"),
        ("ufm landscape --losses fl:3 --lam-w 5e-3 --lam-h 5e-3", "where the loss is not convex"),
        ("ufm landscape --counts 9 5 5 2 --dim 4 --losses ce", "imbalanced classes"),
        ("ufm landscape --out census --figures --save-points", "files, figures, single points"),
        ("ufm certify census/points/ce-003.npz", "the certificate of one of the points"),
        ("ufm spectrum census/points/ce-003.npz", "and its eigenvalues"),
    ),
    "hunt": (
        ("ufm hunt", "spurious minima of the focal loss: 50 problems"),
        ("ufm hunt --losses fl:3 --num-classes 100 --tries 10", "one loss, one K"),
        ("ufm hunt --losses ls:0 ls:0.5 --decay 0.05 1.5 --tries 200", "none for label smoothing"),
        ("ufm hunt --out spurious --figures", "a file for each minimum, and the phase diagram"),
        ("ufm hunt --losses ce --hidden-layers 1 2 --num-classes 4 6", "with more linear layers"),
    ),
    "sweep": (
        ("ufm sweep sweeps/decays.toml --dry-run", "cells, compilations, an estimate"),
        ("ufm sweep sweeps/decays.toml", "run it, or continue it"),
        ("ufm sweep sweeps/decays.toml --shard 3/8", "one of eight processes on one folder"),
    ),
    "train": (
        ("ufm train", "scikit-learn's digits under the four losses of the paper"),
        ("ufm train --losses ce mse --width 16 --epochs 30", "too small, too short"),
        ("ufm train --data fashion-mnist --per-class 500 --width 512", "5,000 images"),
        ("ufm train --model resnet --norm batch --width 0.5 --data mine.npz", "your own images"),
        ("ufm train --losses mse --norm none --learning-rate 0.1", "diverges at once"),
        ("ufm train --out run", "into a folder; repeat it to continue after Ctrl-C"),
    ),
    "reproduce": (
        ("ufm reproduce", "the claims, and the verdict recorded for each"),
        ("ufm reproduce hong-ling-2023", "all claims of a paper"),
        ("ufm reproduce zhou-2022:focal-uniqueness", "one of them, which fails"),
        ("ufm reproduce --all --out claims", "everything, with reproduce.json and page.html"),
    ),
    "store": (
        ("ufm store query \"verdict != 'GLOBAL_MINIMUM'\"", "cells that fell short"),
        ("ufm store export decays.csv --store ufm-results/decays", "all cells as a table"),
        ("ufm store reindex --store ufm-results/decays", "rebuild the index from the batches"),
    ),
    "report": (
        ("ufm report ufm-results/decays", "report.html in the folder"),
        ("ufm report ufm-results/decays --out page.html", "elsewhere"),
    ),
    "completion": (
        ('eval "$(ufm completion bash)"', "for this shell, or in ~/.bashrc for all"),
        ("ufm completion zsh > ~/.zfunc/_ufm", "~/.zfunc must be in $fpath"),
        ("ufm completion fish > ~/.config/fish/completions/ufm.fish", ""),
    ),
    "version": (("ufm version", "include this in a bug report"),),
    "cite": (("ufm cite >> paper.bib", "append it to a bibliography"),),
}


def examples(command: str) -> str:
    """The examples of a subcommand, or of the whole command for any other word."""
    lines = _EXAMPLES.get(command, _GENERAL)
    width = max(len(line) for line, _ in lines)
    shown = (f"  {line:<{width}}  {meaning}".rstrip() for line, meaning in lines)
    return "\n".join(("examples:", *shown))

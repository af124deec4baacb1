"""What stands below the options in `ufm --help` and `ufm solve --help`: commands to start from."""

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
        ("ufm solve --config mine.toml --starts 50", "a file of options, one of them changed"),
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
    "sweep": (
        ("ufm sweep sweeps/decays.toml --dry-run", "cells, compilations, an estimate"),
        ("ufm sweep sweeps/decays.toml", "run it, or go on with it"),
        ("ufm sweep sweeps/decays.toml --shard 3/8", "one of eight processes on one folder"),
    ),
    "store": (
        ("ufm store query \"verdict != 'GLOBAL_MINIMUM'\"", "the cells that fell short"),
        ("ufm store export decays.csv --store ufm-results/decays", "all of them as a table"),
        ("ufm store reindex --store ufm-results/decays", "the index anew from the batches"),
    ),
    "report": (
        ("ufm report ufm-results/decays", "report.html in the folder"),
        ("ufm report ufm-results/decays --out page.html", "elsewhere"),
    ),
    "completion": (
        ('eval "$(ufm completion bash)"', "now, or at every start from ~/.bashrc"),
        ("ufm completion zsh > ~/.zfunc/_ufm", "~/.zfunc has to be in $fpath"),
        ("ufm completion fish > ~/.config/fish/completions/ufm.fish", ""),
    ),
    "cite": (("ufm cite >> paper.bib", "append it to a bibliography"),),
}


def examples(command: str) -> str:
    """The examples of a subcommand; of the whole command for any other word."""
    lines = _EXAMPLES.get(command, _GENERAL)
    width = max(len(line) for line, _ in lines)
    shown = (f"  {line:<{width}}  {meaning}".rstrip() for line, meaning in lines)
    return "\n".join(("examples:", *shown))

"""Real networks: do all losses collapse them, and to the same accuracy?

A small and a large network on digits under the four losses of the paper, five seeds each; their
last layers beside the unconstrained feature model; a verdict by equivalence tests, not by eye.

    python examples/07_networks.py            # sweeps/networks-digits.toml, under two minutes
    python examples/07_networks.py --quick    # one network, two losses, few images

The longer runs on Fashion-MNIST are sweeps/networks-collapse.toml and sweeps/networks-grid.toml.
"""

import argparse
from pathlib import Path

import jax

import ufm
from ufm.networks import load_network_sweep, page_data, summarise
from ufm.report import network_files

FILE = Path(__file__).resolve().parent.parent / "sweeps" / "networks-digits.toml"
#: What --quick changes in the file.
SMALLER = {
    'source = "digits"': 'source = "digits"\nper_class = 20',
    "width = [16, 256]": "width = 24",
    "depth = 2": "depth = 1",
    '["ce", "ls:0.05", "fl:3", "mse:1,15"]': '["ce", "mse:1,15"]',
    "epochs = 100": "epochs = 12",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks under every loss.")
    parser.add_argument("--quick", action="store_true", help="one network, two losses, few images")
    parser.add_argument("--out", type=Path, default=Path("ufm-results/example-07"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # the model's view needs double precision

    # 1. Train: every network, loss and seed is a cell of a sweep, stored as it ends.
    sweep = load_network_sweep(smaller(options.out.with_suffix(".toml")) if options.quick else FILE)
    store = ufm.run_sweep(sweep, options.out)
    print(f"{len(store.finished())} of {len(sweep.cells)} networks are trained")

    for group in summarise(store):
        # 2. Collapse: NC1-NC3 fall along training.
        print(f"\nwidth {group.settings['width']:g}, {group.settings['epochs']} epochs")
        for row in group.rows:
            falls = ", ".join(f"NC{i} fell {x:.3g}-fold" for i, x in enumerate(row.falls, start=1))
            print(f"  {row.loss}: test {row.test_accuracy:.2f} %, {falls}")

        # 3. The model: at its minimum |G|/mu is 1, and the distance to a minimiser 0.
        for row in group.rows:
            print(
                f"  {row.loss}: |G|/mu = {row.dual_ratio:.3g}, shape {row.shape_distance:.2g} away"
            )

        # 4. Agreement: paired seeds, a margin of one point fixed beforehand.
        if group.agreement is not None:
            for loss, test in group.agreement.against_reference.items():
                interval = f"[{test.low:+.2f}, {test.high:+.2f}]"
                print(f"  {loss} - ce: {test.difference:+.2f} points {interval}: {test.outcome}")

    (drawn,) = page_data(store)["variants"]
    for name, content in network_files(drawn["runs"], drawn["comparisons"]):
        (options.out / name).write_bytes(content)
    print(f"\nsaved {options.out}/network-collapse.png and others; all numbers: ufm report")


def smaller(path: Path) -> Path:
    """The same sweep with less of everything."""
    text = FILE.read_text(encoding="utf-8")
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    main()

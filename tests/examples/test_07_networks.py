"""The networks, in quick mode: what it prints is what it claims."""

import re

from example_runs import run_example

from ufm.networks import Outcome


def test_it_trains_them_all_and_compares_the_losses(tmp_path, monkeypatch, capsys):
    out = tmp_path / "networks"
    run_example("07_networks", monkeypatch, "--out", str(out))
    printed = capsys.readouterr().out
    assert "10 of 10 networks are trained" in printed
    assert "\nwidth 24, 12 epochs\n" in printed
    # Two losses, of which the other is compared with CE.
    falls = re.findall(r"NC1 fell (\S+)-fold", printed)
    assert len(falls) == 2
    assert all(float(fall) > 1 for fall in falls)
    outcome = re.search(r"mse:1.0,15.0 - ce: \S+ points \[\S+, \S+\]: (.+)\n", printed)[1]
    assert outcome in [str(each) for each in Outcome]
    for name in ("collapse", "model", "accuracy", "tests"):
        figure = (out / f"network-{name}.png").read_bytes()
        assert figure.startswith(b"\x89PNG")

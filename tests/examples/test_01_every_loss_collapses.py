"""Every loss collapses, in quick mode: what it prints is what it claims."""

from example_runs import run_example


def test_it_proves_every_run_global_and_draws_the_picture(tmp_path, monkeypatch, capsys):
    figure = tmp_path / "figure.png"
    run_example("01_every_loss_collapses", monkeypatch, "--figure", str(figure))
    printed = capsys.readouterr().out
    assert printed.count("3/3 proven global minima") == 4
    assert "STRICT_SADDLE" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")

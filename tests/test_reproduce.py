"""The paper's figures: their numbers against the golden ones, their files, and what the command says to wrong input."""

import numpy as np
import polars
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from minirelu import cli
from minirelu.experiments import fig2, fig3, fig4, fig5, panels, reproduce
from minirelu.theory import single_relu


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["reproduce", *arguments], env={"COLUMNS": "80"})


def test_fig2_is_the_golden_curve():
    columns = fig2.run()
    z = {beta: columns["z"][(columns["t"] >= 0) & (columns["beta"] == beta)] for beta in (0.0, 0.7, 0.9)}
    assert all(len(curve) == 101 for curve in z.values())
    assert_allclose([curve[0] for curve in z.values()], 1.715, atol=5e-4)
    assert (z[0.9].argmin(), round(z[0.9].min(), 2)) == (35, -2.55)
    assert min(z[0.0].min(), z[0.7].min()) >= -0.002
    # the curve is that of the affine model trained by the rule itself
    w, b, m = fig2.W.copy(), fig2.B, np.zeros(3)
    for t in range(101):
        assert_allclose(z[0.9][t], b / np.linalg.norm(w), rtol=1e-12, atol=1e-12)
        m = 0.9 * m + 0.1 * np.append(w - fig2.GAMMA, b)
        w, b = w - 0.1 * m[:2], b - 0.1 * m[2]


def test_fig2_eigenvalues_start_and_meet_where_the_paper_says():
    columns = fig2.run()
    at = (np.array(columns["panel"]) == "eigenvalues") & (columns["beta"] == 0)
    assert_allclose(np.sort(columns["real"][at]), [0, 0.9], atol=1e-12)
    complex_betas = columns["beta"][np.abs(np.nan_to_num(columns["imag"])) > 0]
    assert_allclose(complex_betas.min(), 0.67, atol=0.005)


def test_fig3_is_the_field_and_says_which_form_is_the_gradient():
    columns = fig3.run()
    one = np.flatnonzero((columns["form"] == "exact") & (columns["gamma"] == 0.1))[1234]
    dw, db = single_relu.gradient([columns["w"][one]], columns["b"][one], [0.1], 0.0)
    assert_allclose([columns["dw"][one], columns["db"][one]], [dw[0], db], atol=1e-15)
    exact, drawn = fig3.bias_gradient_errors()
    assert exact < 1e-12
    assert drawn > 0.1
    differs = columns["db"][columns["form"] == "exact"] != columns["db"][columns["form"] == "figure"]
    assert (columns["w"][columns["form"] == "exact"][differs] < 0).all()


@pytest.fixture(scope="module")
def small():
    heard = []
    return fig4.run(2, lambda done, total: heard.append((done, total)), n=10, max_steps=300), heard


def test_fig4_has_every_panel_in_both_forms(small):
    columns, heard = small
    assert heard == [(k, 6) for k in range(1, 7)]
    assert len(columns["dead"]) == 6 * 100
    own = (columns["form"] == "figure") & (columns["gamma"] == 0.1)
    expected = single_relu.basins(0.1, 0.0, n=10, max_steps=300, form="figure")
    assert_array_equal(columns["dead"][own], expected.dead)
    assert_array_equal(np.stack([columns["w"], columns["b"]], axis=-1)[own], expected.end)


def test_figures_4_and_5_show_what_the_paper_shows():
    assert [p.gamma for p in fig4.PANELS] == [0.5, 0.1, 0.001]
    assert [p.beta for p in fig5.PANELS] == [0.7, 0.8, 0.9, 0.95]
    assert {p.beta for p in fig4.PANELS} == {0.0}
    assert {p.gamma for p in fig5.PANELS} == {0.001}


def test_sentences_give_both_shares_and_the_evidence(small):
    said = "\n".join(fig4.sentences(small[0]))
    share = small[0]["dead"][(small[0]["form"] == "exact") & (small[0]["gamma"] == 0.001)].mean()
    assert f"{share:.1%}" in said
    assert "[37.2%]" in said
    assert "Eq. 32 with the factor ρ = sign w_L is the gradient" in said


def test_panels_are_written_with_their_numbers(small, tmp_path):
    reproduce.save("fig4", panels.draw(small[0], fig4.PANELS), small[0], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fig4.parquet", "fig4.png", "fig4.svg"]
    table = polars.read_parquet(tmp_path / "fig4.parquet")
    assert table.columns == ["form", "gamma", "beta", "w0", "b0", "w", "b", "dead", "steps", "reason"]
    assert_array_equal(table["dead"].to_numpy(), small[0]["dead"])


def test_the_same_numbers_give_the_same_files(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        columns = fig2.run()
        reproduce.save("fig2", fig2.draw(columns), columns, folder)
    for name in ("fig2.png", "fig2.svg", "fig2.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_command_writes_three_files_and_speaks(tmp_path):
    result = invoke("fig2", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fig2.parquet", "fig2.png", "fig2.svg"]
    assert (tmp_path / "fig2.png").read_bytes()[:4] == b"\x89PNG"
    assert "lowest b/‖w‖ = -2.548 at t = 35" in result.output
    assert set(reproduce.FIGURES) == {"fig2", "fig3", "fig4", "fig5"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fig9",), "there is no figure called 'fig9'"),
        (("fig2", "--out", "/dev/null/folder"), "cannot be written"),
        (("fig2", "fig3", "--quick"), "--quick was given, but fig2, fig3: no nets are trained; leave it out"),
        (("fig4", "--sgd-lr", "0.1"), "--sgd-lr was given, but fig4: no nets are trained; leave it out"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(arguments, text):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert text in result.output.replace("\n", " ")


@pytest.mark.parametrize("name", reproduce.NETWORKS)
def test_data_that_is_named_must_be_there_before_anything_runs(name, tmp_path, monkeypatch):
    monkeypatch.setattr("minirelu.experiments.networks.sweep.run", None)
    monkeypatch.setattr(fig2, "run", None)
    result = invoke("fig2", name, "--data", "diabetes,nosuch", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert "there is no data set called 'nosuch'" in result.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_of_the_usual_data_sets_those_that_are_there_will_do(monkeypatch):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    for name, module in reproduce.NETWORKS.items():
        assert reproduce.sized(name, True, None).data == module.QUICK.data


def test_ctrl_c_is_one_sentence(monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fig2, "run", interrupted)
    result = invoke("fig2", "--out", str(tmp_path))
    assert result.exit_code == 130
    assert "Stopped" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["fig3", "fig4", "fig5"])
def test_figures_in_full(name, tmp_path):
    result = invoke(name, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.iterdir())) == 3

"""python -m benchmarks gpu, with the CPU in the place of the card: it measures what it says, and refuses what is wrong."""

import json
import sys
import time
import types

import cuda_on_cpu
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import gpu, gpu_peers, gpu_session
from minirelu.kernels import _train_mlp_cuda

pytestmark = pytest.mark.skipif(bool(cuda_on_cpu.missing()), reason=cuda_on_cpu.missing() or "g++ is there")


class Event:
    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


@pytest.fixture
def card(monkeypatch):
    """A stand-in for CuPy that also knows what the benchmark asks of the card."""
    properties = {"name": b"a CPU", "multiProcessorCount": 2, "totalGlobalMem": 1 << 30}
    with cuda_on_cpu.installed() as cupy:
        cupy.cuda.Event, cupy.cuda.get_elapsed_time = Event, lambda a, b: 1e3 * (b.time - a.time)
        cupy.cuda.runtime = types.SimpleNamespace(
            getDeviceProperties=lambda device: properties, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000
        )
        cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
        monkeypatch.setattr(gpu_peers, "missing", lambda: ["torch", "jax"])
        monkeypatch.setattr(_train_mlp_cuda, "THREADS", 32)
        yield cupy


def test_the_whole_run(card, tmp_path, capsys):
    output = tmp_path / "gpu.json"
    assert command.main(["gpu", "--quick", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["gpu"]["name"] == "a CPU"
    forward, *_, adam, _, backward = result["cases"]
    names = [row["candidate"] for row in forward["rows"]]
    assert names == [gpu.COPY, "minirelu", *(f"minirelu, step {k}" for k in (1, 2, 3)), "CuPy"]
    assert [row["bytes"] for row in forward["rows"][:2]] == [
        2 * 4 * 300 * 132,
        4 * (2 * 300 * 132 + 132 + 300 * 5) + 2 * 8 * 132,
    ]
    assert [row["bytes"] for row in adam["rows"][1:]] == [7 * 4 * 2 * 8 * 12] * 3
    assert backward["dtype"] == "bfloat16"
    assert backward["rows"][1]["bytes"] == 2 * (2 * 40 * 48 + 48) + 4 * 40 * 2
    assert all(seconds > 0 for case in result["cases"] for row in case["rows"] for seconds in row["seconds"])
    assert max(result["train"]["against_the_cpu"]["loss_relative_difference"]) < 1e-3
    assert max(result["train"]["against_the_cpu"]["dead_share_difference"]) == 0
    table = capsys.readouterr().out
    assert "| `relu_backward` 300×132 float32 | minirelu, step 3 |" in table
    assert "Figure 1, 4 × 10 steps" in table


def wrong_forward(xp, kernel, a):
    return lambda: (a["z"], a["z"] > 0, *[a["z"][0].astype(np.int64)] * 2)


def test_another_librarys_wrong_result_has_no_row(card, monkeypatch):
    monkeypatch.setattr(gpu_peers, "_formulas", wrong_forward)
    monkeypatch.setattr(gpu, "QUICK", gpu.QUICK[:1])
    result = gpu.run(True, ["kernels"])
    (case,) = result["cases"]
    assert "CuPy: y of bias_relu_forward is wrong" in case["failed"]["CuPy"]
    assert [row["candidate"] for row in case["rows"]][-1] == "minirelu, step 3"
    assert not result["failed"]


def test_a_wrong_result_of_ours_costs_its_case_and_the_exit_status(card, monkeypatch, tmp_path, capsys):
    ladder = gpu._ladder
    monkeypatch.setattr(
        gpu,
        "_ladder",
        lambda cupy, work, a: (
            ladder(cupy, work, a) | ({"minirelu": wrong_forward(cupy, "", a)} if work.kernel == "bias_relu_forward" else {})
        ),
    )
    asked = ["gpu", "--quick", "--part", "kernels", "--output", str(tmp_path / "gpu.json")]
    assert command.main(asked) == 1
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert "minirelu: y of bias_relu_forward is wrong" in result["failed"][0][3]
    assert [case["kernel"] for case in result["cases"]] == ["relu_backward", "count_units", "adam_step", "relu_backward"]
    assert "Failed: ['bias_relu_forward'" in capsys.readouterr().out


def wrong_backward(xp, kernel, a):
    """One unit's db off by two units in its last place; twice the bound that two roundings have."""
    db = a["g"].astype(np.float32) * a["on"].astype(np.float32)
    db = db.sum(axis=-2, keepdims=True)
    db[0, 0] = db[0, 0] * (1 + 2 ** (-6 if a["g"].dtype.name == "bfloat16" else -9))
    return lambda: (xp.where(a["on"], a["g"], xp.zeros((), a["g"].dtype)), db.astype(a["g"].dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_16_bits_have_a_bound_that_finds_two_units_in_the_last_place(card, monkeypatch, dtype):
    monkeypatch.setattr(gpu, "QUICK", [gpu.Case("relu_backward", (40, 48), dtype)])
    right = gpu.run(True, ["kernels"])
    monkeypatch.setattr(gpu_peers, "_formulas", wrong_backward)
    (case,) = gpu.run(True, ["kernels"])["cases"]
    assert not right["failed"]
    assert not right["cases"][0]["failed"]
    assert "CuPy: db of relu_backward is beyond its bound" in case["failed"]["CuPy"]


def test_without_ml_dtypes_bfloat16_has_no_rows(card, monkeypatch):
    monkeypatch.setattr(gpu_peers, "missing", lambda: ["torch", "jax", "ml_dtypes"])
    monkeypatch.setattr(gpu, "QUICK", gpu.QUICK[-2:])
    result = gpu.run(True, ["kernels"])
    assert [case["dtype"] for case in result["cases"]] == ["float16"]
    assert result["missing"][-1] == "ml_dtypes"
    assert not result["failed"]


def test_no_case_is_begun_when_the_time_is_over(card):
    result = gpu.run(True, ["kernels"], seconds=-1)
    assert not result["cases"]
    assert len(result["left_out"]) == len(gpu.QUICK)


def test_without_a_card_the_reason_is_said(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(SystemExit):
        command.main(["gpu", "--quick"])
    assert "CuPy is not installed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- the session


def part(name, code, limit=20.0, **rest):
    return gpu_session.Part(name, (sys.executable, "-c", code), limit, **rest)


def test_a_session_goes_on_after_what_fails_hangs_or_is_missing(tmp_path, capsys):
    output = tmp_path / "gpu.json"
    row = f"import json; p = {str(output)!r}; r = json.load(open(p)); r['cases'] = [1]; json.dump(r, open(p, 'w')); print('π')"
    todo = [
        part("fails", "raise SystemExit('no card')"),
        part("hangs", f"{row}; import time; time.sleep(60)", limit=1.0),
        part("is missing", "", missing="it is not here"),
        gpu_session.Part("is no program", ("/no/such/program",), 5),
        part("is well", "print('fine')"),
    ]
    assert gpu_session.session(todo, output, 60) == 1
    result = json.loads(output.read_text())
    outcomes = {name: outcome["outcome"] for name, outcome in result["parts"].items()}
    assert outcomes == {
        "fails": "exit status 1",
        "hangs": "stopped after its 1 s",
        "is missing": "left out, it is not here",
        "is no program": "exit status 127",
        "is well": "well",
    }
    assert "no card" in result["parts"]["fails"]["said"]
    assert result["cases"] == [1]  # what a part had written before it was stopped
    assert "not well: fails, hangs, is no program" in capsys.readouterr().out


def test_a_session_that_goes_well_says_so_and_ends_in_time(tmp_path):
    output = tmp_path / "gpu.json"
    assert gpu_session.session([part("is well", "print(1)"), part("is missing", "", missing="not here")], output, 60) == 0
    assert gpu_session.session([part("is well", "print(1)")], output, 0) == 1
    assert json.loads(output.read_text())["parts"]["is well"]["outcome"] == "left out, no time was left"


def test_the_session_fits_ten_minutes_and_asks_for_what_there_is(tmp_path):
    todo = gpu_session.parts(tmp_path / "gpu.json")
    assert gpu_session.TOTAL < 600
    assert [one.name for one in todo] == ["install", "tests", "kernels", "training", "memcheck", "racecheck"]
    assert {"--no-deps", "--no-build-isolation"} <= set(todo[0].command)
    parser = command._parser()
    for one in todo[2:4]:
        assert parser.parse_args(one.command[3:]).output == tmp_path / "gpu.json"

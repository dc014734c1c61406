"""The score of the checks themselves: planted faults, mutants, false alarms and power, beside the checkers of others.

    result = run(trials=10_000, power=40)      a dict for JSON; the schema is in benchmarks/README.md
    print(tables(result))                      Markdown

Everything is drawn from seeds that are numbers of trials, so a run can be repeated.
"""

from __future__ import annotations

import collections
import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import nn, ops
from . import mutants, peers
from .cases import CASES
from .explained import reason
from .faults import d_relu, planted, relu
from .primitives import check_gradient, check_layer, check_vjp
from .report import GradientMismatch, NoVerdict

DTYPES = (np.float32, np.float64)
SIZES = {
    np.float32: [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
    np.float64: [1e-16, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2],
}
ENTRIES = (10, 100, 1000)
OURS = "minirelu"


def run(trials: int = 10_000, power: int = 40, peer_trials: int = 100, say: Callable[[str], object] = print) -> dict[str, Any]:
    """All parts; `trials` false-alarm trials for each dtype, `power` trials for each point of a power curve."""
    start = time.perf_counter()
    result: dict[str, Any] = {"benchmark": "testing", "machine": machine()}
    for name, part in (
        ("faults", faults),
        ("mutants", mutation_score),
        ("false_alarms", lambda: false_alarms(trials, peer_trials)),
        ("power", lambda: power_curves(power)),
    ):
        say(f"{name} …")
        result[name] = part()
    result["seconds"] = round(time.perf_counter() - start)
    return result


def outcome(check: Callable[[], object]) -> str:
    """ "passed", "caught" or "no verdict"."""
    try:
        check()
    except GradientMismatch:
        return "caught"
    except NoVerdict:
        return "no verdict"
    return "passed"


# ----------------------------------------------------------------------------------------------- faults and mutants


def faults(seeds: Iterable[int] = range(2)) -> list[dict[str, Any]]:
    """Each planted fault in each dtype: how many of the seeds each checker catches it at."""
    rows = []
    for dtype in DTYPES:
        for k, fault in enumerate(planted(dtype)):
            caught: collections.Counter[str] = collections.Counter()
            for seed in seeds:
                caught[OURS] += outcome(lambda: fault.check(np.random.default_rng([seed, k]), dtype)) == "caught"
                args = [x.astype(dtype) for x in fault.args(np.random.default_rng([seed, k]))]
                for name, check in peers.installed().items():
                    caught[name] += peers.objects(check, fault.f, fault.wrong, args)
            rows.append({"fault": fault.name, "dtype": np.dtype(dtype).name, "seeds": len(list(seeds)), "caught": dict(caught)})
    return rows


def mutation_score(limit: int | None = None) -> list[dict[str, Any]]:
    """One row for ops.py and one for the kernels' backward paths; the survivors with the reason why they survive."""
    rows = []
    for source, made in (("ops.py", mutants.of_ops()), ("kernels, backward", mutants.of_kernels())):
        chosen = made if limit is None else made[:: max(len(made) // limit, 1)]
        results = [(mutant, mutants.kill(mutant)) for mutant in chosen]
        counts = collections.Counter(how for _, how in results)
        alive = [
            {"mutant": str(m), "line": m.line, "kind": m.kind, "outcome": how, "why": reason(m)}
            for m, how in results
            if how != "killed"
        ]
        rows.append({"source": source, "mutants": len(results), "killed": counts["killed"], "not_killed": alive})
    return rows


# ----------------------------------------------------------------------------------------------------- false alarms


def false_alarms(trials: int, peer_trials: int) -> list[dict[str, Any]]:
    """Correct gradients only: NumPy functions, minirelu's primitives and nets, about half of them with entries at kinks."""
    rows = []
    for dtype in DTYPES:
        found = collections.Counter(outcome(lambda: trial(i, dtype)) for i in range(trials))
        rows.append(_alarms(OURS, dtype, trials, found["caught"], found["no verdict"]))
        for name, check in peers.installed().items():
            alarms = sum(peers.objects(check, *_black_box(np.random.default_rng(i), dtype)) for i in range(peer_trials))
            rows.append(_alarms(name, dtype, peer_trials, alarms, 0))
    return rows


def trial(i: int, dtype: Any) -> None:
    """The i-th check of a correct gradient."""
    rng = np.random.default_rng([i, 1])
    kind = rng.random()
    if kind < 0.45:
        every = planted(dtype)
        every[int(rng.integers(len(every)))].check(rng, dtype, right=True)
    elif kind < 0.9:
        name = list(CASES)[int(rng.integers(len(CASES)))]
        make, options = CASES[name][int(rng.integers(len(CASES[name])))]
        arrays = [np.asarray(x).astype(dtype) for x in make(rng)]
        check_vjp(getattr(ops, name), *arrays, rng=rng, shrink=False, **options(rng))
    else:
        check_layer(*random_net(rng, dtype), rng, shrink=False)


def random_net(rng: np.random.Generator, dtype: Any) -> tuple[nn.Layer, np.ndarray]:
    """A net of two to five layers, and a batch; in half of them one row and all biases are 0."""
    width = int(rng.integers(1, 9))
    layers: list[nn.Layer] = [nn.Dense(3, width, rng=rng, dtype=dtype)]
    for kind in rng.integers(0, 5, int(rng.integers(0, 3))):
        if kind < 2:
            layers.append(nn.Dense(width, width, rng=rng, activation=("relu", "prelu")[kind], dtype=dtype))
        elif kind == 2:
            layers.append(nn.Residual(nn.Linear(width, width, rng=rng, dtype=dtype), activation="relu"))
        else:
            layers.append(nn.BatchNorm(width, rng=rng, dtype=dtype) if kind == 3 else nn.Activation("elu"))
    net = nn.Sequential(*layers, nn.Linear(width, 1, rng=rng, dtype=dtype))
    x = rng.normal(size=(int(rng.integers(2, 9)), 3))
    if rng.random() < 0.5:
        x[0] = 0
        for p in net.parameters():
            p.data = 0 * p.data if (p.name or "").endswith("b") else p.data
    return net, x


def _black_box(rng: np.random.Generator, dtype: Any) -> Any:
    every = [fault for fault in planted(dtype) if not fault.primitive]
    fault = every[int(rng.integers(len(every)))]
    return fault.f, fault.right, [x.astype(dtype) for x in fault.args(rng)]


def _alarms(who: str, dtype: Any, trials: int, alarms: int, undecided: int) -> dict[str, Any]:
    low, high = interval(alarms, trials)
    row = {"checker": who, "dtype": np.dtype(dtype).name, "trials": trials, "alarms": alarms, "no_verdict": undecided}
    return row | {"low": low, "high": high}


# ------------------------------------------------------------------------------------------------------------ power


def power_curves(trials: int) -> list[dict[str, Any]]:
    """The share of trials in which one entry of n, wrong by the factor 1 + size, is noticed; ReLU of normal numbers."""
    checkers: dict[str, Any] = {OURS: None}
    checkers |= {name: check for name, check in peers.installed().items() if name != "torch gradcheck"}  # n² evaluations
    rows = []
    for dtype in DTYPES:
        for n in ENTRIES:
            for size in SIZES[dtype]:
                for name, check in checkers.items():
                    caught = sum(_notices(check, n, size, dtype, seed) for seed in range(trials))
                    low, high = interval(caught, trials)
                    row = {"checker": name, "dtype": np.dtype(dtype).name, "entries": n, "size": size}
                    rows.append(row | {"trials": trials, "caught": caught, "low": low, "high": high})
    return rows


def _notices(check: Any, n: int, size: float, dtype: Any, seed: int) -> bool:
    rng = np.random.default_rng([seed, n])
    x = rng.normal(size=n).astype(dtype)
    x[int(rng.integers(n))] = 1  # an active entry of usual size
    wrong = int(np.flatnonzero(x == 1)[0])

    def vjp(g: Any, z: Any) -> Any:
        d = np.array(d_relu(g, z)[0])
        d[wrong] *= 1 + size
        return (d,)

    if check is None:
        return outcome(lambda: check_gradient(relu, vjp, x, rng=rng, shrink=False)) == "caught"
    return peers.objects(check, relu, vjp, [x])


def interval(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; for k = 0 the upper end is the rule of three, 3/n."""
    if n == 0:
        return 0.0, 1.0
    middle, spread = (k + z * z / 2) / (n + z * z), z * np.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    low, high = float(max(middle - spread, 0)), float(min(middle + spread, 1))
    return (0.0 if k == 0 else low, min(3 / n, 1.0) if k == 0 else 1.0 if k == n else high)


def machine() -> dict[str, Any]:
    """What the score was measured on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": peers.versions(),
        "date": datetime.date.today().isoformat(),
    }

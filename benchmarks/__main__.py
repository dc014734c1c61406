"""The benchmarks: time them, show their tables, write their JSON, renew the README's tables, and compare two runs.

    python -m benchmarks kernels                 every kernel against this machine's memory and other libraries
    python -m benchmarks engine                  a training step of small nets, one thread
    python -m benchmarks ideas                   what makes the kernels fast, switched off one idea at a time
    python -m benchmarks train                   whole training runs of many replicas
    python -m benchmarks sweep                   overhead, efficiency and reading of sweeps, and their cost model
    python -m benchmarks gpu                     the CUDA kernels on this machine's GPU
    python -m benchmarks all                     all five but gpu
    python -m benchmarks report                  the tables and the figure again, from the JSON that is there
    python -m benchmarks compare OLD NEW         what became quicker or slower; exit status 1 if a row of ours is slower

Run it on an idle machine. A run that is narrowed (--quick, --kernel, …) writes nothing unless --output names a file;
--part measures a part alone, which takes its place among the kept results.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from minirelu.errors import BackendUnavailableError

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = Path(__file__).parent / "RESULTS.md"
FIGURES = [ROOT / "docs" / f"roofline.{form}" for form in ("png", "svg")]
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    commands = {"kernels": _kernels, "engine": _engine, "ideas": _ideas, "train": _train, "sweep": _sweep, "gpu": _gpu}
    commands |= {"all": _all, "report": _report, "compare": _compare}
    try:
        return commands[given.command](given)
    except (ValueError, BackendUnavailableError) as error:  # a file or an axis that is not there: the sentence is enough
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("kernels", "engine", "ideas", "train", "sweep", "gpu", "all"):
        command = commands.add_parser(name)
        command.add_argument("--quick", action="store_true", help="a look in less than half a minute")
        command.add_argument("--dry", action="store_true", help="show the tables, write nothing")
        command.add_argument("--output", type=Path, help="write the JSON there, and renew neither README nor figure")
        if name in ("engine", "ideas", "train"):
            rounds = {"engine": 200, "ideas": 40, "train": 6}[name]
            command.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds")
        if name == "train":
            help_ = "only this part, as adam-8-200-1-16, steps or memory; may be repeated"
            command.add_argument("--part", action="append", help=help_)
        if name == "gpu":
            command.add_argument("--part", action="append", choices=["kernels", "training"], help="only this part")
            command.add_argument("--seconds", type=float, default=math.inf, help="begin no more kernels after this time")
        if name == "sweep":
            parts = ("cost", "figure1", "executors", "reading")
            command.add_argument("--part", action="append", choices=parts, help="only this part; may be repeated")
        if name == "kernels":
            for axis, example in (
                ("kernel", "relu_backward"),
                ("shape", "64x200"),
                ("dtype", "float64"),
                ("layout", "aligned"),
            ):
                command.add_argument(f"--{axis}", action="append", help=f"only this {axis}, such as {example}; may be repeated")
            help_ = "only this kernel (or its cases of --shape …), which takes its place among the kept results"
            command.add_argument("--part", action="append", help=help_)
            command.add_argument("--backend", action="append", choices=["numba", "reference"], help="only this backend")
    commands.add_parser("report")
    compare = commands.add_parser("compare")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    return parser


def _kernels(given: argparse.Namespace) -> int:
    # All cores for everybody. Waiting threads sleep, so that those of one library do not take the cores from the next.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from benchmarks import cases, kernels, terminal

    chosen = cases.chosen(given.quick, given.kernel or given.part, given.shape, given.dtype, given.layout)
    narrowed = given.quick or any((given.kernel, given.shape, given.dtype, given.layout, given.backend))
    first, narrowed = not (narrowed or given.part), narrowed and not given.part
    with tempfile.TemporaryDirectory() as empty:  # first calls of torch.compile are to be first calls
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        result = kernels.run(chosen, given.backend or ("numba", "reference"), first, terminal.show_case)
    if not narrowed:
        result = kernels.merged(_kept(given, "kernels"), result)
    terminal.show_summary(result)
    _keep(given, result, narrowed)
    return 0


def _engine(given: argparse.Namespace) -> int:
    for variable in THREADS:  # one thread for every library, set before any of them is imported
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    from benchmarks import engine, report

    result = engine.run(min(given.rounds, 20) if given.quick else given.rounds)
    print(report.table(result))
    _keep(given, result, given.quick)
    return 0


def _ideas(given: argparse.Namespace) -> int:
    from benchmarks import ideas

    result = ideas.run(3 if given.quick else given.rounds)
    print(ideas.table(result))
    _keep(given, result, given.quick)
    return 0


def _gpu(given: argparse.Namespace) -> int:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the card's memory for itself
    from benchmarks import gpu, report

    path = given.output or RESULTS / "gpu.json"
    keeps = bool(given.output) or not (given.quick or given.dry)

    def keep(result: dict[str, Any]) -> None:  # after each piece of work, so that a run that is cut off leaves what it has
        print(f"{len(result.get('cases', []))} cases, training: {', '.join(result.get('train', {})) or 'not yet'}", flush=True)
        if keeps:
            report.write(path, result)

    # a part that is measured alone takes its place among the others
    before = json.loads(path.read_text()) if given.part and keeps and path.exists() else {}
    parts = given.part or gpu.PARTS
    result = gpu.run(given.quick, parts, keep, given.seconds, before)
    print(gpu.table(result))
    return 1 if result.get("failed") else 0


def _train(given: argparse.Namespace) -> int:
    for variable in THREADS[:3]:  # one thread for BLAS; ours and the peers' programs for all replicas take all cores
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from benchmarks import train, train_tables

    def show(case: dict[str, Any]) -> None:
        print(train_tables.case_table(case), flush=True)

    if unknown := set(given.part or ()) - set(train.parts(given.quick)):
        raise ValueError(f"there is no part {min(unknown)!r}; expected some of {', '.join(train.parts(given.quick))}")
    result = train.run(3 if given.quick else given.rounds, given.quick, show, given.part or ())
    result = train.merged(_kept(given, "train"), result)
    print(train_tables.page(result))
    _keep(given, result, given.quick)
    return 0


def _sweep(given: argparse.Namespace) -> int:
    for variable in THREADS:
        os.environ.setdefault(variable, "1")
    from benchmarks import sweep

    parts = tuple(given.part or sweep.PARTS)
    result = _kept(given, "sweep") | sweep.run(parts, given.quick)
    print(sweep.table(result))
    _keep(given, result, given.quick)
    return 0


def _kept(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """The results among which a part that is measured alone takes its place."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if given.part and not given.output and path.exists() else {}


def _all(given: argparse.Namespace) -> int:
    """Each in a process of its own, because they give the libraries different numbers of threads."""
    options = ["--quick"] * given.quick + ["--dry"] * given.dry
    for name in ("kernels", "engine", "ideas", "train", "sweep"):
        output = ["--output", f"{given.output.with_suffix('')}-{name}.json"] if given.output else []
        subprocess.run([sys.executable, "-m", "benchmarks", name, *options, *output], check=True)
    return 0


def _keep(given: argparse.Namespace, result: dict[str, Any], narrowed: bool) -> None:
    from benchmarks import report

    if given.dry or (narrowed and not given.output):
        return
    report.write(given.output or RESULTS / f"{result['benchmark']}.json", result)
    if not given.output:
        _renew(result)


def _renew(result: dict[str, Any]) -> None:
    from benchmarks import ideas, report, roofline, sweep, tables
    from minirelu.files import write_atomically

    if result["benchmark"] == "engine":
        report.renew(README, "engine", report.table(result))
        return
    if result["benchmark"] == "ideas":
        report.renew(ROOT / "docs" / "kernels.md", "ideas", ideas.table(result))
        return
    if result["benchmark"] == "train":
        from benchmarks import train_tables

        report.renew(ROOT / "docs" / "training.md", "train", train_tables.page(result))
        return
    if result["benchmark"] == "sweep":
        report.renew(ROOT / "docs" / "sweeps.md", "sweep", sweep.table(result))
        return
    report.renew(README, "kernels", tables.readme(result))
    write_atomically(PAGE, lambda file: file.write((tables.page(result) + "\n").encode()))
    for path in FIGURES:
        roofline.draw(result, path)


def _report(given: argparse.Namespace) -> int:
    from benchmarks import ideas, report, sweep, terminal, train_tables

    shown = {"engine": report.table, "ideas": ideas.table, "train": train_tables.page, "sweep": sweep.table}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        if result["benchmark"] == "kernels":
            for case in result["cases"]:
                terminal.show_case(case)
            terminal.show_summary(result)
        elif result["benchmark"] == "gpu":
            from benchmarks import gpu

            print(gpu.table(result))
            continue
        elif result["benchmark"] in shown:
            print(shown[result["benchmark"]](result))
        else:
            continue  # not one of ours
        _renew(result)
    return 0


def _compare(given: argparse.Namespace) -> int:
    from benchmarks import compare

    return compare.show(*(compare.load(path) for path in (given.old, given.new)))


if __name__ == "__main__":
    sys.exit(main())

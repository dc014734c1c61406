"""How long a run takes on one core, roughly: what balances the shards and says the time left (docs/sweeps.md).

    seconds = START + steps · (STEP + FLOP·flops of a step + UPDATE·parameters)
            + measurements · (MEASURED + MEASURED_FLOP·flops of a forward pass over the rows measured on)

A step of batch B through layers I×O costs 6·B·ΣI·O flops, forward and two products backward, less the 2·B·I·O of the first
layer's product backward: the inputs need no gradient. The constants were fitted to the
compiled training kernel (`python -m benchmarks sweep --part cost` does that again); on another machine they are all too large
or too small by about one factor, which changes no balance and is corrected in the time left.
"""

from __future__ import annotations

from .grid import Run

START = 5e-4  # parameters are drawn
STEP = 1.3e-6
FLOP = 1.65e-11
UPDATE = 5.5e-10
MEASURED = 1.6e-4
MEASURED_FLOP = 2e-11
EVALUATED = 4096  # rows that train_mlp measures on, at most


def products(run: Run, inputs: int) -> int:
    """ΣI·O: the number of weights."""
    return inputs * run.width + (run.depth - 1) * run.width**2 + run.width


def flops(run: Run, inputs: int) -> int:
    """Floating-point operations of a step."""
    return 2 * run.batch * (3 * products(run, inputs) - inputs * run.width)


def parameters(run: Run, inputs: int) -> int:
    """The number of all parameters of one replica."""
    return products(run, inputs) + run.depth * run.width * (3 if run.batch_norm else 1) + 1


def measurements(run: Run) -> int:
    """At how many steps everything is measured: 0, record_every, …, and the last."""
    return -(-run.steps // run.record_every) + 1


def seconds(run: Run, rows: int, inputs: int) -> float:
    """The time of one run, on data of so many rows and inputs."""
    step = STEP + FLOP * flops(run, inputs) + UPDATE * parameters(run, inputs)
    measured = MEASURED + MEASURED_FLOP * min(rows, EVALUATED) * 2 * products(run, inputs)
    return START + run.steps * step + measurements(run) * measured


def memory(run: Run, rows: int, inputs: int) -> int:
    """Bytes that one replica takes while it is trained: parameters, optimiser state, targets, counts, in round numbers."""
    return 32 * parameters(run, inputs) + 16 * rows + 24 * measurements(run) * run.depth * run.width

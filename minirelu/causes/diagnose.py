"""Why the units of a given training die: run it again from the same seeds, with one suspect changed at a time.

    found = diagnose(X, y, recipe, steps=4000, seeds=range(5))
    for sentence in sentences(found): print(sentence)

- `changes(recipe)`: the suspects: what could be at fault in this recipe, and the change that would take it away.
- `diagnose(...)`: a `Diagnosis`. `sentences(diagnosis)`: it in plain language.

A suspect is the cause if without it at most half of the silent units are left, and surely fewer (the 95 % interval of the
differences, seed by seed, all suspects together). Where several are, those that depart from what is usual come first: a
remedy may help against a cause that it did not make. Then it is the one that leaves the fewest; of those that leave about as
few, the one that fits best, because a net that hardly moves keeps its units too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ..estimates import Estimate, error_estimate, estimate
from ..sweep.axes import INITS
from .compare import compared, resolution
from .recipe import Recipe
from .settings import listed, typed, usual_rate
from .training import Outcome, measured

ALARM = 0.25  # silent units in the worst layer, below which there is nothing to explain
ALIKE = 0.15  # shares that differ by less are about the same
SHALLOW, WIDE = 2, 32


class Change(NamedTuple):
    """A suspect, in words, with the options (or whatever is to be set) that take it away; `unusual`: it departs from what is
    recommended.
    """

    suspect: str
    words: str
    option: str
    recipe: Recipe
    unusual: bool


class Trial(NamedTuple):
    """What is left with a change: silent share of the worst layer, how much less that is, error; over the n seeds that stayed
    finite both times.
    """

    change: Change
    dead: Estimate
    fewer: Estimate
    error: Estimate


class Diagnosis(NamedTuple):
    """`dead`: silent share of each seed's worst layer at the end (most often `layer`, from 1); `died`: of it, not at birth."""

    recipe: Recipe
    layer: int
    dead: Estimate
    died: Estimate
    error: Estimate
    diverged: int
    tested: tuple[Trial, ...]
    cause: Trial | None
    alarm: float

    @property
    def ill(self) -> bool:
        """Whether there is anything to explain."""
        return self.dead.n > 0 and self.dead.mean > self.alarm


def changes(recipe: Recipe, own_net: bool = False) -> list[Change]:
    """The suspects of a recipe, each with itself alone changed; what a change would leave as it is is no suspect.

    The widths of a user's `own_net` are no option: they are set where the net is defined.
    """
    found = []

    def suspect(name: str, words: str, unusual: bool = True, **fields: object) -> None:
        changed = recipe._replace(**fields)  # type: ignore[arg-type]
        if changed != recipe:
            option = f"{words} where your net is defined" if own_net and "widths" in fields else typed(recipe, changed)
            found.append(Change(name, words, option, changed, unusual))

    odd = recipe.init not in INITS or recipe.init_scale != 1 or recipe.negative != 0.5
    usual = usual_rate(recipe.optimizer)
    rate = float(f"{min(recipe.lr / 10, usual):g}")  # as it is said
    suspect("initialisation", "He's initialisation", odd, init="he", init_scale=1.0, negative=0.5, constant=0.0)
    suspect("bias", "biases that start at 0", bias=0.0)
    suspect("learning rate", f"the learning rate {rate:g}", recipe.lr > usual, lr=rate)
    suspect("inputs", "standardised inputs", raw=0.0, shift=0.0)
    suspect("targets", "standardised targets", gamma=1.0, delta=0.0)
    if len(recipe.widths) > SHALLOW:
        suspect("shape", f"{SHALLOW} hidden layers", widths=recipe.widths[:SHALLOW])
    if min(recipe.widths) < WIDE:
        wider = tuple(max(4 * width, WIDE) for width in recipe.widths)
        suspect("shape", f"layers of {listed(wider)} units", widths=wider)
    return found


def diagnose(
    X: np.ndarray,
    y: np.ndarray,
    recipe: Recipe,
    steps: int,
    seeds: Sequence[int],
    alarm: float = ALARM,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    own_net: bool = False,
) -> Diagnosis:
    """Train `recipe` on raw columns X (N, I), y (N, 1), and again with every change, all from the same seeds.

    Nothing is changed where the worst layer has at most `alarm` silent units on average. `own_net`: the widths are those of a
    net of the user's (`changes`). Raises `ValueError` for fewer than 2 seeds, and as `measured` does.
    """
    if len(seeds) < 2:
        raise ValueError(f"diagnose was given {len(seeds)} seed(s); an interval needs at least 2, and 5 tell more")
    suspects = changes(recipe, own_net)
    on_progress(0, len(suspects) + 1)
    run = partial(measured, X=X, y=y, seeds=seeds, steps=steps, ranked=False)
    before = run(recipe)
    found = _begun(recipe, before, alarm)
    on_progress(1, len(suspects) + 1)
    if not found.ill:
        return found
    tested = []
    for k, change in enumerate(suspects):
        tested.append(_tested(change, before, run(change.recipe), recipe.widths, len(suspects)))
        on_progress(k + 2, len(suspects) + 1)
    return found._replace(tested=tuple(tested), cause=guilty(found.dead, tested))


def _begun(recipe: Recipe, of: Outcome, alarm: float) -> Diagnosis:
    fine = of.only(of.finite)
    worst, died = fine.worst_layer()
    layer = int(np.bincount(worst).argmax()) if len(worst) else 0
    step = resolution(fine.dead, recipe.widths)
    dead, since = (estimate(kind, 0, 1, resolution=step) for kind in (fine.worst, died))
    diverged = int((~of.finite).sum())
    return Diagnosis(recipe, layer + 1, dead, since, error_estimate(fine.error[:, -1]), diverged, (), None, alarm)


def _tested(change: Change, before: Outcome, after: Outcome, widths: tuple[int, ...], comparisons: int) -> Trial:
    both, changed = before.finite & after.finite, change.recipe.widths
    return Trial(
        change,
        estimate(after.worst[both], 0, 1, resolution=resolution(after.dead[both], changed)),
        compared(before, after, (widths, changed), comparisons).fewer,
        error_estimate(after.error[both, -1]),
    )


def guilty(dead: Estimate, tested: Sequence[Trial]) -> Trial | None:
    """The suspect without which the units live, by the rule of this module; None if there is none."""
    able = [t for t in tested if t.fewer.n > 1 and t.fewer.low > 0 and t.dead.mean <= dead.mean / 2]
    able = [t for t in able if t.change.unusual] or able
    least = min((t.dead.mean for t in able), default=0.0)
    return min((t for t in able if t.dead.mean <= least + ALIKE), key=lambda t: t.error.mean, default=None)


# ------------------------------------------------------------------------------------------------------------- in words


def sentences(found: Diagnosis) -> list[str]:
    """What was found, the evidence, and the option to set."""
    kind = "dead" if found.recipe.activation == "relu" else "silent (never above 0)"
    said = []
    if found.diverged:
        said.append(
            f"{found.diverged} of {found.diverged + found.dead.n} runs diverged: their numbers became infinite, which is not "
            "dying; they are in none of these figures."
        )
    if not found.dead.n:
        return [*said, "No cause found: no run stayed finite. Lower the learning rate first, or standardise the data."]
    said.append(
        f"{share(found.dead)} of the worst layer (most often layer {found.layer}) are {kind} at the end; {share(found.died)} "
        f"died in training, the others were born so (mean [95 % interval], n = {found.dead.n})."
    )
    if not found.ill:
        return [*said, f"No cause found: that is not above {found.alarm:.0%}, so there is nothing to explain."]
    if found.cause is None:
        return [*said, f"No cause found: none of the {len(found.tested)} changes surely leaves fewer, at most half of them."]
    return [*said, *_verdict(found, found.cause)]


def _verdict(found: Diagnosis, cause: Trial) -> list[str]:
    change, others = cause.change, [t for t in found.tested if t is not cause and guilty(found.dead, [t])]
    said = [
        f"The cause is the {change.suspect}. With {change.words} instead, and nothing else changed, "
        f"{share(cause.dead)} of the worst layer are left: {100 * cause.fewer.mean:.0f} points fewer "
        f"[{100 * cause.fewer.low:.0f}, {100 * cause.fewer.high:.0f}], seed by seed, n = {cause.fewer.n}; "
        f"the error goes from {found.error.mean:.3g} to {cause.error.mean:.3g} (1: that of the mean).",
        f"Set {change.option}",
    ]
    if others:
        words = "; ".join(f"{t.change.option} ({share(t.dead)} left, error {t.error.mean:.3g})" for t in others)
        said.append(f"These alone would have kept the units too: {words}.")
    return said


def share(e: Estimate) -> str:
    """`41 % [32, 50]`, or – where there is nothing."""
    return f"{100 * e.mean:.0f} % [{100 * e.low:.0f}, {100 * e.high:.0f}]" if e.n else "–"


HEADS = ("changed alone", "left in the worst layer", "points fewer", "error", "n")


def lines(found: Diagnosis) -> list[tuple[str, ...]]:
    """A line of a table for each change, after one for none."""
    made: list[tuple[str, ...]] = [("nothing", share(found.dead), "", f"{found.error.mean:.3g}", str(found.dead.n))]
    for t in found.tested:
        fewer = f"{100 * t.fewer.mean:.0f} [{100 * t.fewer.low:.0f}, {100 * t.fewer.high:.0f}]" if t.fewer.n else "diverged"
        made.append((t.change.words, share(t.dead), fewer, f"{t.error.mean:.3g}", str(t.fewer.n)))
    return made

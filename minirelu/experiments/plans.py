"""From the words of a command line to a `Plan`, and back to words.

- `from_options(given, paper)`: the plan of the options that were given, over the defaults or over the paper's settings.
- `check_machine(plan)`: whether its kernels and device are here.
- `describe(plan)`, `title(plan)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import backend, kernels
from ..data.table import nearest
from ..optim import rule_name
from .study import EMA, Plan, Rule
from .study import RULES as DEFAULT_RULES

RULES = {rule_name(rule.name.replace(",", "")): rule for rule in (*DEFAULT_RULES, EMA)}

# App. A and Fig. 1 (paper.md §2.1). The learning rate of its SGD is not stated.
PAPER = Plan(
    data="airfoil",
    gammas=tuple(10.0**k for k in range(4, -6, -1)),
    rules=(Rule("SGD", "SGD", {"lr": 0.01}), Rule("Adam", "Adam", {"lr": 0.001, "beta1": 0.9})),
    seeds=tuple(range(8)),
    steps=250_000,
)
_RATES = " and ".join(f"{rule.name} at {rule.settings['lr']:g}" for rule in PAPER.rules)
PAPER_SAYS = f"The paper's Figure 1: {PAPER.data}, γ 1e-5 … 1e4, {_RATES}, {PAPER.steps:,} steps, {len(PAPER.seeds)} seeds."

# option: (field of Plan, how to read it)
OPTIONS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {}


def _list_of(kind: Callable[[str], Any], what: str) -> Callable[[str, Any], Any]:
    def read(option: str, text: str) -> tuple[Any, ...]:
        try:
            found = tuple(kind(part.strip()) for part in text.split(",") if part.strip())
        except ValueError:
            found = ()
        if not found:
            raise ValueError(f"--{option} takes {what} separated by commas, got {text!r}")
        return tuple(dict.fromkeys(found))  # each once

    return read


def _seeds(option: str, text: str) -> tuple[int, ...]:
    """`3` is 0, 1, 2; `4,7` is 4 and 7; `4,` is 4 alone."""
    numbers = _list_of(int, "a number of seeds, or seeds")(option, text)
    if "," in text:
        return numbers
    if numbers[0] < 1:
        raise ValueError(f"--{option} was given {text}; expected how many seeds, at least 1, or seeds separated by commas")
    return tuple(range(numbers[0]))


def _as_is(option: str, value: Any) -> Any:
    return value


def _rules(option: str, text: str) -> tuple[Rule, ...]:
    names = [rule_name(part) for part in text.split(",") if part.strip()]
    for name in names:
        if name not in RULES:
            known = ", ".join(RULES)
            raise ValueError(f"--{option} was given {name!r}{nearest(name, tuple(RULES))}; expected some of {known}")
    return tuple(RULES[name] for name in dict.fromkeys(names))


_NUMBERS, _COUNTS = _list_of(float, "numbers"), _list_of(int, "whole numbers")
OPTIONS.update(
    data=("data", _as_is), target=("target", _as_is), gamma=("gammas", _NUMBERS), delta=("deltas", _NUMBERS),
    optimizer=("rules", _rules), lr=("", _NUMBERS), beta=("", _NUMBERS), depth=("depths", _COUNTS), width=("widths", _COUNTS),
    residual=("residual", _as_is), batch_norm=("batch_norm", _as_is), batch=("batches", _COUNTS), steps=("steps", _as_is),
    seeds=("seeds", _seeds), every=("every", _as_is), dtype=("dtype", _as_is), kernels=("kernels", _as_is),
    device=("device", _as_is),
)  # fmt: skip


def from_options(given: dict[str, Any], paper: bool = False) -> Plan:
    """The plan with the options that are not None. Raises `ValueError`, a sentence, for what cannot be read."""
    read = {name: OPTIONS[name][1](name, value) for name, value in given.items() if value is not None}
    plan = PAPER if paper else Plan()
    fields = {OPTIONS[name][0]: value for name, value in read.items() if OPTIONS[name][0]}
    rules = _varied(fields.get("rules", plan.rules), read.get("lr", ()), read.get("beta", ()))
    return replace(plan, **{**fields, "rules": rules})


def _varied(rules: tuple[Rule, ...], rates: tuple[float, ...], betas: tuple[float, ...]) -> tuple[Rule, ...]:
    """Every rule at every learning rate and momentum given; the name says which, where there are several."""
    found = []
    for rule in rules:
        momentum = next((name for name in ("beta", "beta1") if rule.settings.get(name)), None)
        for rate in rates or (rule.settings["lr"],):
            for b in (betas if momentum else ()) or (rule.beta(),):
                settings = {**rule.settings, "lr": rate, **({momentum: b} if momentum else {})}
                name = rule.name + (f", lr {rate:g}" if len(rates) > 1 else "")
                name += f", β {b:g}" if momentum and len(betas) > 1 else ""
                found.append(Rule(name, rule.kind, settings))
    return tuple(found)


def check_machine(plan: Plan) -> None:
    """Raise `BackendUnavailableError` or `ValueError` if the plan's kernels or device are not here."""
    if plan.device not in ("cpu", "cuda"):
        raise ValueError(f"--device was given {plan.device!r}; expected cpu or cuda")
    if plan.device == "cuda" and plan.kernels not in ("auto", "cuda"):
        raise ValueError(f"--kernels was given {plan.kernels!r} with --device cuda; on a GPU those in CUDA train: leave it out")
    with kernels.using(plan.kernels):
        if plan.device == "cuda":
            backend.to_device([0.0])


def describe(plan: Plan) -> str:
    """One sentence on what is trained."""
    nets = f"{_either(plan.depths)} hidden layer{'s' * (plan.depths != (1,))} of {_either(plan.widths)} ReLUs"
    extras = [name for name, on in (("residual blocks", plan.residual), ("batch norm", plan.batch_norm)) if on]
    shift = "" if plan.deltas == (0.0,) else f" + δ, δ = {_either(plan.deltas)}"
    made_with = f" with {' and '.join(extras)}" if extras else ""
    return (
        f"{len(plan.replicas())} trainings: {nets}{made_with}, batch {_either(plan.batches)}, {plan.steps:,} steps, "
        f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}; targets γ·y{shift} with y standardised."
    )


def title(plan: Plan) -> str:
    """The heading of the figures."""
    nets = f"{_either(plan.depths)} x {_either(plan.widths)} ReLUs" if plan.depths != (1,) else f"{_either(plan.widths)} ReLUs"
    extras = ", residual" * plan.residual + ", batch norm" * plan.batch_norm
    seeds = "one seed" if len(plan.seeds) == 1 else f"mean of {len(plan.seeds)} seeds with 95 % intervals"
    return f"{name(plan)}: {nets}{extras}, {plan.steps:,} steps, {seeds}"


def name(plan: Plan) -> str:
    """The data set's name, without the folders of a path."""
    return plan.data.rpartition("/")[2]


def _either(values: tuple[Any, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)

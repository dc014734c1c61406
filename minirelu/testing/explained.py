"""Why a mutant that survives is no fault of a gradient: `reason(mutant)`, or "" where nobody has explained it yet."""

from __future__ import annotations

from .mutants import Mutant

# Mutants of any function, by what was changed.
FASTER = ("c_contiguous", "checked=", "skip.shape != z.shape or z.ndim < 2")
REFUSING = ("_check_affine", "_check_shapes")  # functions of ops.py that do nothing else
REFUSED = ("x.ndim < 2 or x.shape[-1] != W.shape[-2]", "ndim == 0")

# (function, part of the line, change): f and its gradient change alike, so the gradient is that of another function.
ALIKE = [
    ("pow", "xp.log(xp.where", "where the base is 0 so is the value, and the product, whatever the logarithm is of"),
    ("sigmoid", "1 / (1 +", "1/(1 − e⁻ˣ) has the slope y(1 − y) too"),
    ("max", "x.max(", "another function, the minimum, with its own gradient"),
    ("min", "x.min(", "another function, the maximum, with its own gradient"),
    ("leaky_relu", "active =", "the same mask serves f and its gradient: the kink moves to 1"),
    ("prelu", "active =", "the same mask serves f and its gradient: the kink moves to 1"),
    ("elu", "low =", "low is used for x <= 0 only, where the minimum with 0 and that with 1 agree"),
    ("batch_norm", "spread =", "another spread, in f and in its gradient"),
    ("residual_relu", "xp.where(s <= 0, 0, s), s > 0", "the way for broadcast operands, which the cases do not take: test_ops"),
    ("affine", "small_affine(", "another function, with a ReLU, and its gradient; test_ops pins its values"),
    ("affine_relu", "small_affine(", "another function, without the ReLU, and its gradient; test_ops pins its values"),
    ("batch_moments", "", "f itself becomes NaN, which allows no verdict; test_ops pins its values"),
]


def reason(mutant: Mutant) -> str:
    """A sentence, or "" for a survivor that is not understood."""
    if mutant.kind == "default":
        return "the default of an option: another function of the same family"
    if mutant.function in REFUSING or any(line in mutant.text for line in REFUSED):
        return "decides what is refused, not what is computed; test_ops tests the refusals"
    if any(word in mutant.text for word in FASTER):
        return "chooses between two ways to the same numbers (or, for memory layouts, is tested in test_ops)"
    if "<= 0" in mutant.before and "< 0" in mutant.after:
        return "changes the sign of a zero only; test_ops pins it bit for bit"
    if "<= 0" in mutant.text and mutant.kind == "constant":
        return "f itself jumps, which allows no verdict; test_ops pins its values"
    if " or 1" in mutant.text:
        return "a guard for arrays without entries, which have no gradient to be wrong"
    for function, line, why in ALIKE:
        if mutant.function == function and line in mutant.text:
            return why
    return ""

"""A dot-product check for primitives in their raw form: <g, J v> against <vjp(g), v>.

J v comes from a complex step, which has no truncation and no cancellation (Squire and Trapp 1998), or from central
differences for formulas that do not take complex numbers and are piecewise quadratic, where these have no truncation.

Tolerances: `gain` bounds every partial derivative of the primitive, and every term in its formula for one. Each
product of a gradient entry, a partial derivative and a direction entry is then at most gain·|g|·|v|; it carries the
rounding of a handful of operations (8 eps) and of the sums it goes through (at most one eps per entry summed).
"""

import numpy as np

from minirelu import Tensor, ops

H = 2.0**-10  # the step of central differences; a sixteenth of the distance of strategies.GRID to a kink


def complex_step(f, x, v):
    tiny = 1e-30  # its square is lost beside 1, so the imaginary part is the slope alone
    return np.imag(f(x + 1j * tiny * v)) / tiny, 0.0


def central(f, x, v):
    above, below = f(x + H * v), f(x - H * v)
    rounding = 16 * np.finfo(np.float64).eps * np.max(np.abs([above, below]), initial=1) / H
    return (above - below) / (2 * H), rounding


def pull(vjp, g, operands):
    """The gradients of all operands from either form of vjp; `g` stays as it is."""
    if isinstance(vjp, tuple):
        return [f(g) for f in vjp]
    return list(vjp(g.copy(), list(operands)))


def check(op, *operands, gain, method=complex_step, **options):
    """All that a primitive promises at one point (float64 arrays with entries of strategies.GRID)."""
    kept = [x.copy() for x in operands]
    y, vjp = op.raw(*operands, **options)[:2]
    rng = np.random.default_rng(y.size)
    g = (2 * rng.integers(-32, 32, y.shape) + 1) / 64 if y.shape else np.array(0.625)  # exact in float32
    ds = pull(vjp, g, operands)

    terms = 8 + y.size + max(x.size for x in operands)
    reach = terms * gain * np.abs(g).sum()
    _check_slopes(op, operands, options, g, ds, method, reach)
    _check_engine(op, operands, options, g, ds, reach)
    _check_float32(op, operands, options, g, ds, reach)
    _check_ownership(vjp, g, operands, ds)
    for x, was in zip(operands, kept, strict=True):
        np.testing.assert_array_equal(x, was, err_msg=f"{op.__name__} wrote to an operand")


def _check_slopes(op, operands, options, g, ds, method, reach):
    """<g, J v> = <d, v>, one operand at a time; d may still be broadcast, and is then met by a broadcast v."""
    rng = np.random.default_rng(len(operands))
    for i, (x, d) in enumerate(zip(operands, ds, strict=True)):
        v = rng.uniform(-1, 1, x.shape)

        def f(moved, i=i):
            return op.raw(*operands[:i], moved, *operands[i + 1 :], **options)[0]

        Jv, rounding = method(f, x, v)
        forward = float(np.sum(g * Jv))
        backward = float(np.sum(d * np.broadcast_to(v, d.shape)))
        bound = np.finfo(np.float64).eps * reach * np.abs(v).sum() + rounding * np.abs(g).sum()
        assert abs(forward - backward) <= bound, (
            f"{op.__name__}, operand {i} of shapes {[x.shape for x in operands]}, {options}: "
            f"<g, Jv> = {forward!r}, <vjp(g), v> = {backward!r}, bound {bound:.2g}"
        )


def _check_engine(op, operands, options, g, ds, reach):
    """Through the engine every gradient has the shape and dtype of its operand, and the sums of broadcasting are done."""
    tensors = [Tensor(x) for x in operands]
    found = ops.sum(ops.mul(op(*tensors, **options), g)).backward()
    for t, d in zip(tensors, ds, strict=True):
        assert found[t].shape == t.shape
        assert found[t].dtype == t.dtype
        bound = np.finfo(np.float64).eps * reach
        np.testing.assert_allclose(found[t], summed_to(d, t.shape), rtol=0, atol=bound, equal_nan=False)


def summed_to(d, shape):
    """Broadcasting undone with plain loops over the axes."""
    while d.ndim > len(shape):
        d = d.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            d = d.sum(axis=axis, keepdims=True)
    return d


def _check_float32(op, operands, options, g, ds, reach):
    """float32 in is float32 out, within its rounding of the float64 vjp at the same point."""
    small = [x.astype(np.float32) for x in operands]
    y, vjp = op.raw(*small, **options)[:2]
    assert y.dtype == np.float32
    for d32, d64 in zip(pull(vjp, g.astype(np.float32), small), ds, strict=True):
        assert d32.dtype == np.float32
        np.testing.assert_allclose(d32, d64, rtol=0, atol=np.finfo(np.float32).eps * reach, equal_nan=False)


def _check_ownership(vjp, g, operands, ds):
    """What a vjp hands over is nobody else's: writing to it changes neither the next call nor another gradient."""
    first = [np.array(d) for d in ds]
    given = [d for d in ds if d is not g and isinstance(d, np.ndarray)]
    for d in given:
        assert not any(np.shares_memory(d, x) for x in operands), "a gradient shares memory with an operand"
    fresh = [d for d in given if d.base is None]  # these the engine overwrites
    for i, d in enumerate(fresh):
        assert not any(np.shares_memory(d, other) for other in fresh[:i]), "one array was handed over twice"
    for d in fresh:
        d.fill(np.nan)
    for again, before in zip(pull(vjp, g, operands), first, strict=True):
        np.testing.assert_array_equal(again, before, err_msg="the second call of a vjp differs from the first")

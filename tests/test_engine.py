"""The engine and Tensor: sums over all uses, dtypes, who owns which array, what is freed, what is refused."""

import contextlib
import gc
import itertools
import weakref

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import Tensor, losses, ops
from minirelu.engine import gradients, no_graph, primitive, toposort, unbroadcast
from minirelu.errors import GraphError, ShapeError

DTYPES = [np.float32, np.float64]

# ------------------------------------------------------------------------------------------------ sums over all uses


def summed_to(d, shape):
    """Broadcasting undone with plain loops over the axes."""
    while d.ndim > len(shape):
        d = d.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            d = d.sum(axis=axis, keepdims=True)
    return d


def test_x_times_x():
    x = Tensor([3.0, -5.0])
    (x * x).sum().backward()
    assert x.grad.tolist() == [6, -10]


def test_x_plus_x():
    x = Tensor(3.0)
    (x + x).backward()
    assert x.grad == 2


def test_a_leaf_used_in_many_places():
    x = Tensor(2.0)
    (x * x * x + 4 * x - x / 2).backward()
    assert x.grad == 12 + 4 - 0.5


def test_diamond():
    x = Tensor(3.0)
    left, right = 2 * x, x * x
    (left * right).backward()  # 2x³
    assert x.grad == 54


def test_a_shared_subexpression_is_pulled_through_once():
    calls = []

    @primitive
    def square(a):
        return a * a, (lambda g: calls.append(1) or 2 * a * g,)

    x = Tensor(3.0)
    y = square(x)
    z = y + y
    (z * z + y).backward()  # 4x⁴ + x²
    assert x.grad == 16 * 27 + 6
    assert len(calls) == 1


def test_uses_at_different_depths():
    """The short path reaches x before the long one: x must wait for both."""
    x = Tensor(1.0)
    y = 1 * x
    long = y
    for _ in range(5):
        long = 2 * long
    (long + y).backward()
    assert x.grad == 33


@pytest.mark.parametrize("depth", [50_000])  # fifty times the recursion limit of CPython
def test_a_long_chain(depth):
    x = Tensor(1.0)
    y = x
    for _ in range(depth):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    assert len(toposort(y)) == depth
    del y  # freeing it must not recurse either


def test_toposort_puts_every_var_after_its_operands():
    x = Tensor(1.0)
    a = x + 1
    b = x * a
    c = b - a
    assert toposort(c) == [a, b, c]
    assert toposort(x) == []


def test_broadcasting_is_summed_back():
    x, y = Tensor(np.ones((2, 1, 3))), Tensor(np.ones((4, 1)))
    (x * y).sum().backward()
    assert x.grad.shape == (2, 1, 3)
    assert (x.grad == 4).all()
    assert y.grad.shape == (4, 1)
    assert (y.grad == 6).all()


@pytest.mark.parametrize(
    ("given_shape", "shape"),
    [((2, 3), ()), ((2, 3), (3,)), ((2, 3), (1, 1)), ((4, 2, 3), (2, 1)), ((0, 3), (1, 3)), ((0,), ()), ((2, 0), (1, 0))],
)
def test_unbroadcast(given_shape, shape):
    g = np.arange(np.prod(given_shape, dtype=int), dtype=float).reshape(given_shape)
    found = np.asarray(unbroadcast(g, shape))
    assert found.shape == shape
    assert_array_equal(found, summed_to(g, shape))


@pytest.mark.parametrize(("given_shape", "shape"), [((3,), (2,)), ((3,), (1, 3)), ((2, 1), (2, 3)), ((), (1,))])
def test_unbroadcast_refuses_what_is_no_broadcasting(given_shape, shape):
    with pytest.raises(ShapeError, match="the vjp of odd returned shape"):
        unbroadcast(np.ones(given_shape), shape, "odd")


# ------------------------------------------------------------------------------------------- dtypes and raw operands


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: 2.5 * x,
        lambda x: 1 - x,
        lambda x: 3 / x,
        lambda x: x**2,
        lambda x: x**0.5,
        lambda x: 2**x,
        lambda x: x + np.float64(1),
        lambda x: np.float64(2) * x,
        lambda x: x * np.arange(1, 4),
        lambda x: np.arange(3.0) + x,
        lambda x: x + True,
        lambda x: x * [1, 2, 3],
        lambda x: abs(-x),
        lambda x: x.mean(),
        lambda x: ops.elu(x, alpha=0.5),
        lambda x: ops.where(np.array([True, False, True]), x, 0.0),
        lambda x: ops.maximum(x, 2),
        lambda x: ops.prelu(x, 0.25),
        lambda x: ops.affine_relu(x.reshape(1, 3), np.eye(3), np.zeros((1, 3))),
        lambda x: losses.huber(x.reshape(3, 1), np.ones((3, 1))),
    ],
)
def test_dtype_in_is_dtype_out(function, dtype):
    x = Tensor(np.array([1.0, 2.0, 3.0], dtype))
    y = function(x)
    assert y.dtype == dtype
    assert type(y.data) is np.ndarray
    y.sum().backward()
    assert x.grad.dtype == dtype
    assert type(x.grad) is np.ndarray


def test_tensors_of_different_dtypes_are_refused():
    a, b = Tensor(np.ones(2, np.float32)), Tensor(np.ones(2))
    for op in (ops.add, ops.mul, ops.matmul, ops.residual_relu):
        with pytest.raises(TypeError, match=f"{op.__name__} was given tensors of float32 and float64; make them one dtype"):
            op(a, b)


@pytest.mark.parametrize("odd", ["text", None, object(), 1j, np.array([1j, 2]), {1: 2}])
def test_odd_operands_are_refused(odd):
    with pytest.raises(TypeError):
        Tensor([1.0, 2.0]) + odd


def test_a_primitive_of_arrays_alone_is_its_raw_value():
    y = ops.add(np.ones(2), 1)
    assert type(y) is np.ndarray
    assert y.tolist() == [2, 2]
    assert ops.add.raw(1, 2)[0] == 3


def test_what_a_tensor_holds():
    assert Tensor([1, 2]).dtype == np.float64
    assert Tensor(np.arange(3)).dtype == np.float64
    assert Tensor([True, False]).data.tolist() == [1, 0]
    assert Tensor(np.float32(2)).dtype == np.float32
    assert Tensor([1, 2], dtype=np.float32).dtype == np.float32
    array = np.ones(3, np.float32)
    assert Tensor(array).data is array
    for odd in (np.ones(2, np.float16), ["a"], [1j], np.array([None])):
        with pytest.raises(TypeError, match="float32 or float64"):
            Tensor(odd)
    with pytest.raises(TypeError, match=r"use tensor\.data"):
        Tensor(Tensor(1.0))


# ----------------------------------------------------------------------------------------------------------- backward


def test_a_loss_per_replica_gives_each_its_own_gradient():
    rng = np.random.default_rng(0)
    W, X, t = rng.normal(size=(3, 2, 1)), rng.normal(size=(5, 2)), rng.normal(size=(5, 1))
    together = Tensor(W)
    loss = losses.mse(ops.matmul(X, together), t)
    assert loss.shape == (3,)
    loss.backward()
    for r in range(3):
        alone = Tensor(W[r])
        losses.mse(ops.matmul(X, alone), t).backward()
        # the sum over 5 rows may be ordered otherwise by BLAS
        np.testing.assert_allclose(together.grad[r], alone.grad, rtol=0, atol=5 * 2.3e-16 * np.abs(X).sum() * np.abs(t).sum())


def test_backward_twice_gives_the_same_and_assigns():
    x, W, b = np.ones((4, 2)), Tensor(np.array([[1.0, -1], [2, 1]])), Tensor(np.zeros((1, 2)))
    loss = (ops.affine_relu(x, W, b) ** 2).sum()
    first = loss.backward()
    before = {leaf: gradient.copy() for leaf, gradient in first.items()}
    for gradient in first.values():
        gradient.fill(np.nan)  # the caller may do with it as it likes
    second = loss.backward()
    assert set(second) == {W, b}
    for leaf, gradient in second.items():
        assert leaf.grad is gradient
        assert_array_equal(gradient, before[leaf])


def test_backward_returns_leaves_only_and_leaves_the_others_alone():
    x, y, unused = Tensor(2.0), Tensor(3.0), Tensor(4.0)
    z = x * y
    found = (z * z).backward()
    assert set(found) == {x, y}
    assert z.grad is None
    assert unused.grad is None
    assert gradients(z * z) == {x: 36, y: 24}


def test_a_vjp_in_use_by_two_losses():
    """Backward of one loss must not spoil what another one kept."""
    x = Tensor(np.array([[1.0, -2.0]]))
    shared = ops.affine_relu(x, np.eye(2), np.zeros((1, 2)))
    one, other = (3 * shared).sum(), (5 * shared).sum()
    one.backward()
    other.backward()
    assert x.grad.tolist() == [[5, 0]]
    one.backward()
    assert x.grad.tolist() == [[3, 0]]


def test_only_wanted_gradients_are_computed():
    @primitive
    def first(a, b):
        return a + b, (lambda g: g, lambda g: pytest.fail("the second operand is not tracked"))

    x = Tensor(1.0)
    first(x, 2.0).backward()
    assert x.grad == 1


def test_a_joint_vjp_learns_which_operands_are_tracked():
    seen = []

    @primitive
    def both(a, b, c):
        return a + b + c, lambda g, wanted: seen.append([w is not None for w in wanted]) or (g, None, g[...])

    x, z = Tensor([1.0]), Tensor([2.0])
    both(x, np.ones(1), z).backward()
    assert seen == [[True, False, True]]
    assert x.grad == z.grad == 1


def test_a_joint_vjp_may_overwrite_its_gradient():
    """g reaches `scribble` and its sibling as one array; overwriting it must not reach the sibling, nor the seed."""

    @primitive
    def scribble(a):
        def pull(g, wanted):
            d = g.copy()
            g.fill(np.nan)
            return (d,)

        return a * 1, pull

    for build in (
        lambda a, b: scribble(a) + b,
        lambda a, b: b + scribble(a),
        lambda a, b: scribble(a) + scribble(b),
        lambda a, b: scribble(scribble(a)) + scribble(1 * b),
        lambda a, b: (scribble(a).reshape(2, 1) + b.reshape(2, 1)).swapaxes(),
        lambda a, b: ops.sum(scribble(a)) + ops.sum(b),
        lambda a, b: ops.concatenate([scribble(a), scribble(b)]),
    ):
        a, b = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
        build(a, b).backward()
        assert a.grad.tolist() == [1, 1]
        assert b.grad.tolist() == [1, 1]


# ------------------------------------------------------------------------------- random graphs against a naive engine


def naive_gradients(loss):
    """Slow and plain: every contribution is copied, summed back and added out of place."""
    found = {loss: np.ones_like(loss.data)}
    for var in reversed(toposort(loss)):
        vjp, parents = var.node.vjp, var.node.parents
        g = found[var]
        ds = [f(g.copy()) for f in vjp] if isinstance(vjp, tuple) else vjp(g.copy(), [1] * len(parents))
        for parent, d in zip(parents, ds, strict=True):
            if parent is not None:
                d = summed_to(np.array(d), parent.shape)
                found[parent] = found[parent] + d if parent in found else d
    return {var: g for var, g in found.items() if var.node is None}


BINARY = [ops.add, ops.sub, ops.mul, ops.matmul, ops.residual_relu, ops.maximum]
UNARY = [
    ops.relu,
    ops.neg,
    ops.swapaxes,
    lambda x: ops.reshape(x, shape=(3, 3)),
    lambda x: x[::-1],
    lambda x: x[[0, 2, 2]],
    lambda x: ops.add(ops.sum(x, axis=0, keepdims=True), x),
    lambda x: ops.broadcast_to(ops.sum(x, axis=1, keepdims=True), shape=(3, 3)),
    lambda x: ops.concatenate([x[:1], x[1:]], axis=0),
]
AFFINE = [ops.affine, ops.affine_relu]


@st.composite
def graphs(draw):
    """Two leaves (3, 3) and a bias (1, 3) of small integers, and up to six primitives on what is there so far.

    Integers, and the halves that `maximum` makes of them, keep every sum exact whatever its order, so that gradients
    can be compared bit for bit.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    leaves = [Tensor(rng.integers(-2, 3, shape).astype(float)) for shape in ((3, 3), (3, 3), (1, 3))]
    built = leaves[:2]
    for _ in range(draw(st.integers(1, 6))):
        pick = st.sampled_from(built)
        kind = draw(st.sampled_from("bua"))
        if kind == "b":
            built.append(draw(st.sampled_from(BINARY))(draw(pick), draw(pick)))
        elif kind == "u":
            built.append(draw(st.sampled_from(UNARY))(draw(pick)))
        else:
            built.append(draw(st.sampled_from(AFFINE))(draw(pick), draw(pick), leaves[2]))
    loss = built[-1] if draw(st.booleans()) else ops.add(built[-1], built[-2])
    return ops.sum(loss) if draw(st.booleans()) else loss


@given(graphs())
def test_random_graphs_against_the_naive_engine(loss):
    expected = naive_gradients(loss)
    assume(all(np.abs(g).max() < 2**40 for g in expected.values()))  # times 2⁶ for six halvings: below 2⁵³
    values = [var.data.copy() for var in toposort(loss)]
    found = loss.backward()
    assert set(found) == set(expected)
    for leaf, g in found.items():
        assert_array_equal(g, expected[leaf])
    for var, before in zip(toposort(loss), values, strict=True):
        assert_array_equal(var.data, before)


@given(graphs())
def test_gradients_alias_neither_each_other_nor_the_graph(loss):
    assert_gradients_are_nobody_elses(loss)


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: a + b,  # both get the very array that add was given
        lambda a, b: (a + b).sum(),  # both get a view of the seed
        lambda a, b: ops.residual_relu(a, b),
        lambda a, b: a.reshape(4) + b.reshape(4),
        lambda a, b: ops.concatenate([a, b]),
        lambda a, b: (a + b) + a,
    ],
)
def test_gradients_of_one_array_are_set_apart(build):
    assert_gradients_are_nobody_elses(build(Tensor(np.ones((2, 2))), Tensor(np.full((2, 2), 2.0))))


def assert_gradients_are_nobody_elses(loss):
    """By their memory; and by writing to one after the other, which neither the rest nor a second pass may notice."""
    found = loss.backward()
    grads = list(found.values())
    for g, other in itertools.combinations(grads, 2):
        assert not np.shares_memory(g, other)
    for g, var in itertools.product(grads, [*found, *toposort(loss)]):
        assert not np.shares_memory(g, var.data)
    kept = {leaf: g.copy() for leaf, g in found.items()}
    for done, g in enumerate(grads, start=1):
        assert g.flags.writeable
        g.fill(np.nan)
        for leaf in list(found)[done:]:
            assert_array_equal(leaf.grad, kept[leaf])
    for leaf, g in loss.backward().items():
        assert_array_equal(g, kept[leaf])


# -------------------------------------------------------------------------------------------------- what is kept


@contextlib.contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def network(x, W, b):
    y = ops.affine_relu(x, W, b)
    y = ops.residual_relu(y, ops.tanh(y))
    y = ops.batch_norm(y, np.ones((1, 3)), b)
    return ((ops.concatenate([y, y[:, :1]]) ** 2).max(axis=0)).mean()


def test_a_graph_is_freed_by_reference_counts_alone():
    x, W, b = np.ones((4, 2)), Tensor(np.ones((2, 3))), Tensor(np.ones((1, 3)))
    with no_collector():
        loss = network(x, W, b)
        loss.backward()
        made = [weakref.ref(var) for var in toposort(loss)]
        arrays = [weakref.ref(var.data) for var in toposort(loss)]
        assert all(ref() is not None for ref in made)
        del loss
        assert [ref for ref in made + arrays if ref() is not None] == []
    assert W.grad.shape == (2, 3)


def test_a_graph_without_backward_is_freed_too():
    W = Tensor(np.ones((2, 3)))
    with no_collector():
        loss = network(np.ones((4, 2)), W, np.ones((1, 3)))
        made = [weakref.ref(var) for var in toposort(loss)]
        del loss
        assert [ref for ref in made if ref() is not None] == []


def test_no_graph_keeps_nothing():
    W = Tensor(np.ones((2, 3)))
    with no_collector(), no_graph():
        y = ops.affine_relu(np.ones((4, 2)), W, np.ones((1, 3)))
        intermediate = weakref.ref(y)
        y = ops.tanh(y)
        assert y.node is None
        assert intermediate() is None
    with pytest.raises(GraphError, match="no graph behind this tensor"):
        y.backward()
    assert ops.tanh(W).node is not None  # outside, graphs are kept again


def test_no_graph_ends_with_an_exception_and_nests():
    x = Tensor(1.0)
    with contextlib.suppress(KeyError), no_graph():
        raise KeyError
    assert (x + 1).node is not None
    with no_graph():
        with no_graph():
            pass
        assert (x + 1).node is None


def test_backward_on_a_leaf_is_refused():
    with pytest.raises(GraphError, match="it is a leaf or was computed under no_graph"):
        Tensor(1.0).backward()


# ---------------------------------------------------------------------------------------------------- what is refused


def test_operators_in_place_are_refused():
    x = Tensor([1.0, 2.0])
    for statement in ("x += 1", "x -= 1", "x *= 2", "x /= 2", "x **= 2", "x @= x"):
        with pytest.raises(GraphError, match=r"write x = x \+ y instead of x \+= y"):
            exec(statement, {"x": x})
    assert x.data.tolist() == [1, 2]


def test_item_assignment_is_refused():
    x = Tensor([1.0, 2.0])
    with pytest.raises(GraphError, match=r"ops\.where"):
        x[0] = 5
    assert x.data.tolist() == [1, 2]


def test_arrays_are_not_made_of_tensors_silently():
    for convert in (np.asarray, np.array, np.sum, np.sqrt):
        with pytest.raises(TypeError):
            convert(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"use tensor\.data"):
        np.asarray(Tensor([1.0, 2.0]))


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__mul__", "__truediv__", "__pow__", "__matmul__"])
def test_arrays_and_tensors_in_both_orders(operation):
    a, b = np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 1], [2, 3]])
    expected = getattr(a, operation)(b)
    reflected = operation.replace("__", "__r", 1)
    # left operand an array: ndarray gives way, so that Python asks the tensor
    assert getattr(a, operation)(Tensor(b)) is NotImplemented
    assert_array_equal(getattr(Tensor(b), reflected)(a).data, expected)
    assert_array_equal(getattr(Tensor(a), operation)(b).data, expected)
    assert_array_equal(getattr(Tensor(a), operation)(Tensor(b)).data, expected)


def test_array_plus_tensor_is_a_tensor_with_a_gradient():
    x = Tensor([1.0, 2.0])
    y = np.array([3.0, 4.0]) * x - np.float64(1)
    assert type(y) is Tensor
    y.sum().backward()
    assert x.grad.tolist() == [3, 4]


def test_a_vjp_of_the_wrong_shape_is_refused():
    @primitive
    def wrong(a):
        return a * 2, (lambda g: np.ones(7),)

    with pytest.raises(ShapeError, match=r"the vjp of wrong returned shape \(7,\) for an argument of shape \(2,\)"):
        wrong(Tensor([1.0, 2.0])).backward()


def test_a_vjp_of_the_wrong_dtype_is_refused():
    @primitive
    def wide(a):
        return a * 2, (lambda g: g.astype(np.float64),)

    with pytest.raises(TypeError, match="the vjp of wide returned float64 for an argument of float32; cast it back"):
        wide(Tensor(np.ones(2, np.float32))).backward()


# ------------------------------------------------------------------------------------------------ the rest of Tensor


def test_comparisons_give_arrays():
    x = Tensor([1.0, 2.0, 3.0])
    two = Tensor([2.0, 2.0, 2.0])
    for other in (2, np.full(3, 2.0), two):
        assert (x < other).tolist() == [True, False, False]
        assert (x <= other).tolist() == [True, True, False]
        assert (x > other).tolist() == [False, False, True]
        assert (x >= other).tolist() == [False, True, True]
    assert (np.full(3, 2.0) < x).tolist() == [False, False, True]
    assert type(x < 2) is np.ndarray


def test_tensors_are_equal_only_to_themselves():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert x in (y, x)
    assert x != y
    assert {x: 1, y: 2}[x] == 1


def test_iteration_and_length():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = list(x)
    assert len(x) == len(rows) == 2
    assert rows[1].data.tolist() == [3, 4]
    (rows[0] * rows[1]).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    with pytest.raises(TypeError):
        iter(Tensor(1.0))


def test_built_in_sum_keeps_float32():
    x = Tensor(np.ones(3, np.float32))
    assert sum(x).dtype == np.float32


def test_indexing():
    x = Tensor(np.arange(12.0).reshape(3, 4))
    mask = np.array([True, False, True])
    for key in (1, (1, 2), slice(None, None, -1), (..., 0), (None, 2), [0, 0], mask, (slice(1), [3, 3])):
        assert_array_equal(x[key].data, x.data[key])


def test_methods_and_properties():
    x = Tensor(np.arange(6.0).reshape(2, 3), name="x")
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3), 2, 6, np.float64)
    assert_array_equal(x.T.data, x.data.T)
    assert x.reshape(6).shape == x.reshape(-1).shape == x.reshape((6,)).shape == (6,)
    assert x.reshape(3, 2).shape == (3, 2)
    assert x.transpose().shape == x.transpose(1, 0).shape == x.transpose((1, 0)).shape == x.swapaxes().shape == (3, 2)
    assert x.sum().item() == 15
    assert x.mean(axis=0).data.tolist() == [1.5, 2.5, 3.5]
    assert x.max(axis=1, keepdims=True).shape == (2, 1)
    assert float(x.min()) == 0
    assert bool(Tensor(1.0))
    assert not Tensor(0.0)
    assert f"{x.sum():.1f}" == "15.0"
    with pytest.raises(ValueError):
        x.item()


def test_repr():
    x = Tensor([1.0, 2.0], name="x")
    assert repr(x) == "Tensor(x: [1. 2.])"
    assert repr(x + 1) == "Tensor([2. 3.], from add)"
    assert repr((x + 1).node) == "Node(add)"
    assert len(repr(Tensor(np.zeros(10_000)))) < 100
    assert f"{x}" == repr(x)

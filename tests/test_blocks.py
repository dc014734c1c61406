"""Figure 6's other layouts: what a block computes, how it is trained and kept, and verdicts on made-up numbers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reproducing import reproduced

from minirelu import data, init, losses, optim
from minirelu.causes import tasks
from minirelu.experiments import blocks, fig6, report
from minirelu.train.loop import minibatches
from minirelu.train.nets import moved
from minirelu.train.settings import prepared

TABLE = data.read("sine")


def of(layout="stem", depth=1, seed=1, steps=12):
    return blocks.Training("sine", TABLE.checksum(), layout, depth, seed, steps)


def made(share, seeds=2, names=blocks.FULL.data):
    """Columns in which the dead share is `share(layout, depth, column of STEPS)`, with a small spread."""
    rows = [
        (name, layout, "adam", depth, seed, step, share(layout, depth, column) + 0.004 * seed)
        for name in names for layout in blocks.LAYOUTS for depth in blocks.DEPTHS
        for seed in range(seeds) for column, step in enumerate(fig6.STEPS)
    ]  # fmt: skip
    return dict(zip(fig6.NAMES[:7], map(np.array, zip(*rows, strict=True)), strict=True))


def papers(layout, depth, column):
    return fig6.ADAM["residual"][fig6.DEPTHS.index(depth)][column]


# ------------------------------------------------------------------------------------------------------------- nets


@pytest.mark.parametrize("layout", blocks.LAYOUTS)
def test_a_block_is_its_formula(layout):
    """Written once more in NumPy, in evaluation mode, of which running mean 0 and variance 1 at birth are the statistics."""
    net = blocks.net(layout, 3, 2, np.random.default_rng(0), 7)
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    p = [parameter.data for parameter in net.parameters()]

    def relu(h, W, b, scale, shift):
        return np.maximum(scale * (h @ W + b) / np.sqrt(1 + 1e-5) + shift, 0)

    h, rest = x, p
    if layout == "stem":
        (W, b), rest = p[:2], p[2:]
        h = x @ W + b
    own = 4 if layout == "stem" else 6
    for _ in range(2):
        first, rest = rest[:own], rest[own:]
        change = relu(h, *first[:4])
        h = h + (change @ first[4] + first[5] if layout == "inputs" else change)
    W, b = rest
    with blocks.nn.evaluating(net):
        assert_allclose(net(x).data, h @ W + b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", blocks.LAYOUTS)
def test_the_course_is_that_of_the_plain_loop(layout, monkeypatch):
    """Dead units are counted by hand from what the ReLUs are given."""
    monkeypatch.setattr(blocks, "WIDTH", 20)
    monkeypatch.setattr(blocks, "STEPS", (0, 5))
    monkeypatch.setattr(blocks, "LR", 0.5)  # so large that units die
    course = blocks.trained(of(layout, 2), {"sine": TABLE[:2]}, None)
    assert_array_equal(course.step, [0, 5, 12])
    assert course.seconds > 0
    rows = prepared(*TABLE[:2], None, None, True, np.float32)
    targets = (1e-4 * rows.y).astype(np.float32)[:, None]
    net = blocks.net(layout, rows.X.shape[1], 2, init.replicas([1]), 20)
    opt = optim.Adam([net.parameters()[i] for i in moved(net)], 0.5)
    for step, (x, t) in enumerate(minibatches(rows.X, targets, 64, [1], 12)):
        if step in (0, 5):
            assert_allclose(course.dead[(0, 5).index(step)], worst(net, rows.X), atol=1e-7)
        losses.mse(net(x), t).backward()
        opt.step()
    assert_allclose(course.dead[2], worst(net, rows.X), atol=1e-7)
    assert course.dead[2] > 0


def worst(net, X):
    """The worst layer's dead share, by the inputs of every ReLU."""
    shares, h = [], X
    with blocks.nn.evaluating(net):
        for layer in net.layers:
            inner = h
            for part in getattr(layer, "layers", ()):
                if isinstance(part, blocks.nn.Activation):
                    shares.append(1 - (inner.data > 0).any(axis=-2).mean())
                inner = part(inner)
            h = layer(h)
    assert len(shares) == 2
    return max(shares)


def test_a_diverged_net_is_no_dead_one(monkeypatch):
    monkeypatch.setattr(blocks, "WIDTH", 5)
    monkeypatch.setattr(blocks, "LR", 1e38)
    assert np.isnan(blocks.trained(of(), {"sine": TABLE[:2]}, None).dead[-1])


def test_every_setting_is_in_the_name_of_its_file(monkeypatch):
    keys = {of().key(), of("inputs").key(), of(depth=4).key(), of(seed=3).key(), of(steps=13).key()}
    keys.add(of()._replace(numbers="others").key())
    for name in ("WIDTH", "BATCH", "LR", "GAMMA", "STEPS"):
        with monkeypatch.context() as changed:
            changed.setattr(blocks, name, 7)
            keys.add(of().key())
    assert len(keys) == 11
    assert of()._replace(data="the same numbers").key() == of().key()


# --------------------------------------------------------------------------------------------------------- verdicts


def test_the_papers_own_numbers_are_reproduced():
    found = blocks.findings(made(papers), {})
    assert [f.verdict for f in found] == ["reproduced"] * 8
    assert {f.n for f in found} == {8}
    assert [f.claim.paper for f in found[:4]] == ["0.26", "0.3", "0.6", "0.34"]


def test_other_numbers_are_not():
    """One layout as the paper has it, of the other only nets of few layers; then the order is the wrong way round."""
    columns = made(lambda layout, depth, column: papers(layout, 1 if layout == "stem" else depth, column))
    expected = [*["reproduced"] * 2, *["not reproduced"] * 2, *["reproduced"] * 4]
    assert [f.verdict for f in blocks.findings(columns, {})] == expected
    columns = made(lambda layout, depth, column: 0.95 - 0.02 * depth)
    assert {f.verdict for f in blocks.findings(columns, {})} == {"not reproduced"}


def test_short_runs_and_missing_sets():
    short = made(papers)
    short = {name: values[made(papers)["step"] <= 5000] for name, values in short.items()}
    assert [f.verdict for f in blocks.findings(short, {})] == [*["reproduced"] * 3, "not run"] * 2
    for columns in (made(papers, names=blocks.FULL.data[:3]), made(papers, seeds=1)):
        assert {f.verdict for f in blocks.findings(columns, {})} == {"not run"}
    found = blocks.findings(made(papers, names=blocks.FULL.data[1:]), {"airfoil": "no such file"})
    assert {f.why for f in found} == {"no such file"}


# ---------------------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "Processes", Here)
        patch.setattr(blocks, "WIDTH", 10)
        yield reproduced(tmp_path_factory.mktemp("blocks"), "blocks", steps=20)


class Here:
    """`Processes` in this process."""

    def __init__(self, work, common, workers):
        self.work, self.common, self.waiting = work, common, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task):
        self.waiting.append(task)

    @property
    def busy(self):
        return bool(self.waiting)

    def events(self, timeout):
        task = self.waiting.pop(0)
        yield tasks.Finished(task, self.work(task, self.common, None))


def test_the_command_foretells_trains_draws_and_speaks(short):
    _, output = short
    assert "of training on 1 idle cores" in output
    assert "inputs (x + W₂ relu(batch norm(W₁ x)) on the inputs): 1 hidden 0." in output
    assert "(n = 2)" in output


def test_what_is_kept_is_not_trained_again(short, monkeypatch):
    folder, size = short[0] / "runs", blocks.Size(("sine",), 2, 20)
    monkeypatch.setattr(tasks, "Processes", None)
    monkeypatch.setattr(blocks, "WIDTH", 10)
    blocks.train(folder, size, 1, lambda done, total: None)
    assert blocks.predicted(folder, size) == 0
    assert blocks.predicted(folder, size._replace(seeds=3)) > 0
    columns = blocks.collect(folder, size)
    assert len(columns["data"]) == 2 * 3 * 2 * 2  # layouts, depths, seeds, steps
    assert columns["wall_seconds"].sum() > 0
    course = tasks.found(of("inputs", 4, steps=20), folder / "blocks", blocks.Course)
    own = (columns["block"] == "inputs") & (columns["depth"] == 4) & (columns["seed"] == 1)
    assert_array_equal(columns["dead_share"][own], course.dead)


def test_more_seeds_go_on_from_fewer(short, monkeypatch):
    folder = short[0] / "runs"
    monkeypatch.setattr(tasks, "Processes", Here)
    told = []
    with monkeypatch.context() as narrow:
        narrow.setattr(blocks, "WIDTH", 10)
        blocks.train(folder, blocks.Size(("sine",), 3, 20), 1, lambda done, total: told.append(total))
    assert told[0] == 2 * 3  # layouts, depths: the third seed of each


def test_the_report_takes_what_is_there_of_any_length(short, monkeypatch):
    monkeypatch.setattr(blocks, "WIDTH", 10)
    monkeypatch.setattr(blocks, "FULL", blocks.Size(("sine",), 2, 95_000))
    folder = short[0] / "runs"
    size, columns = report._largest(blocks, folder, blocks.FULL)
    assert (size.steps, len(columns["data"])) == (20, 2 * 3 * 2 * 2)
    assert blocks.lengths(folder / "elsewhere") == []

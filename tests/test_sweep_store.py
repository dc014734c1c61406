"""The store: what is written comes back, what was damaged is found out, and two sweeps do not share it."""

import errno
import json
import multiprocessing
import os
import resource
import tempfile

import numpy as np
import polars as pl
import pytest
import sweep_work
from hypothesis import given
from hypothesis import strategies as st

from minirelu import sweep
from minirelu.errors import StoreError
from minirelu.sweep import shards, store

SETS = shards.load_sets(sweep_work.GRID.runs())
SHARDS = shards.cut(sweep_work.GRID.runs(), SETS)
DEEP = next(shard for shard in SHARDS if shard.runs[0].depth == 2)
WIDE = next(shard for shard in SHARDS if shard.runs[0].depth == 1)


def outcome(shard):
    return sweep_work.made_up(shard, SETS, lambda standing: None)


@pytest.fixture
def folder(tmp_path):
    """A store with all shards but the last."""
    made = store.Store(tmp_path / "runs")
    made.prepare()
    for shard in SHARDS[:-1]:
        made.keep(shard, outcome(shard), SETS)
    return made


def test_rows_of_a_shard_say_what_was_measured():
    frame = store.table(WIDE, outcome(WIDE), SETS)
    assert frame.columns == list(store.SCHEMA())
    for run, row in zip(WIDE.runs, frame.iter_rows(named=True), strict=True):
        assert {name: row[name] for name in run._fields} == run._asdict()
        diverged = run.seed == 2
        np.testing.assert_equal(row["mse"], np.nan if diverged else run.gamma / (1 + run.seed))
        np.testing.assert_equal(row["dead_share"], np.nan if diverged else run.seed % run.width / run.width)
        assert row["nonfinite"] == int(diverged)
        assert [moment["step"] for moment in row["history"]] == [0, 20]
        assert row["finished"] >= row["started"]


def test_the_worst_layer_is_the_one_with_most_dead_units():
    found = outcome(DEEP)
    found.dead[:, -1] = [[1, 3], [2, 0]]
    frame = store.table(DEEP, found, SETS)
    width = DEEP.runs[0].width
    np.testing.assert_allclose(frame["dead_share"], [4 / (2 * width), 2 / (2 * width)])
    np.testing.assert_allclose(frame["dead_share_worst_layer"], [3 / width, 2 / width])


def test_history_has_a_row_for_each_run_step_and_layer(folder):
    frame = sweep.history(folder.path)
    runs = sweep.load(folder.path)
    assert frame.columns == ["run_id", "step", "layer", "mse", "dead", "nearly_dead", "linear", "nonfinite"]
    assert frame.height == 2 * runs["depth"].sum()
    last = frame.filter(pl.col("step") == 20).group_by("run_id").agg(pl.col("dead").sum(), pl.col("layer").max())
    both = runs.join(last, "run_id")
    assert both.height == runs.height
    assert (both["layer"] == both["depth"]).all()
    fine = both.filter(pl.col("dead_share").is_not_nan())
    assert fine.height > 0
    np.testing.assert_allclose(fine["dead"] / (fine["width"] * fine["depth"]), fine["dead_share"])


def test_a_file_is_named_by_its_shard_and_its_bytes_and_there_is_one_a_shard(folder):
    contents = folder.contents()
    assert set(contents.whole) == {shard.key for shard in SHARDS[:-1]}
    again = outcome(SHARDS[0])._replace(host="elsewhere")
    folder.keep(SHARDS[0], again, SETS)
    assert len(list(folder.results.glob("*.parquet"))) == len(SHARDS) - 1
    assert pl.read_parquet(folder.contents().whole[SHARDS[0].key])["host"].unique().to_list() == ["elsewhere"]


CONTENT = {}


@given(st.data())
def test_any_byte_that_is_altered_or_lost_is_found_out(tmp_path_factory, data):
    if not CONTENT:
        made = store.Store(tmp_path_factory.mktemp("runs"))
        made.prepare()
        made.keep(DEEP, outcome(DEEP), SETS)
        CONTENT.update(store=made, path=made.contents().whole[DEEP.key])
        CONTENT["bytes"] = CONTENT["path"].read_bytes()
    content = bytearray(CONTENT["bytes"])
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    CONTENT["path"].write_bytes(content)
    assert CONTENT["store"].contents() == ({}, [CONTENT["path"]])
    with pytest.raises(StoreError, match="cut off or altered: 1, "):
        sweep.load(CONTENT["store"].path)
    CONTENT["path"].write_bytes(CONTENT["bytes"])
    assert CONTENT["store"].contents().damaged == []


def test_a_run_in_two_files_counts_once(folder):
    other = shards.shard(SHARDS[0].runs[:1], SHARDS[0].ids[:1], SETS)
    before = sweep.load(folder.path)
    folder.keep(other, outcome(other), SETS)
    assert sweep.load(folder.path).drop(sweep.UNLIKE).equals(before.drop(sweep.UNLIKE), null_equal=True)


def _lock(path, heard, end):
    with store.Store(path).locked():
        heard.set()
        end.wait(60)


def test_a_folder_is_one_sweeps_at_a_time_and_free_when_it_was_killed(folder):
    context = multiprocessing.get_context("spawn")
    heard, end = context.Event(), context.Event()
    other = context.Process(target=_lock, args=(folder.path, heard, end))
    other.start()
    assert heard.wait(60)
    with pytest.raises(StoreError, match=f"a sweep is running on .* already .process {other.pid} on"), folder.locked():
        pass
    other.kill()
    other.join()
    places = folder.path / ".manifest.json.1.part", folder.results / ".x.parquet.1234.part", folder.failed / ".x.json.1.part"
    for half in places:
        half.write_text("half")
    with folder.locked():
        assert not any(half.exists() for half in places)
    with folder.locked():
        pass


def test_a_full_disk_is_found_before_anything_runs_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = store.Store(tmp_path / "runs")
    made.prepare()
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot be written to .*runs: File too large .* nothing was computed"):
            made.check_room(SHARDS)
        made.check_room([])  # what is finished needs none
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == []


def test_a_disk_that_fills_up_leaves_no_half_of_a_file(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(path.name for path in folder.results.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.keep(SHARDS[-1], outcome(SHARDS[-1]), SETS)
    assert sorted(path.name for path in folder.results.iterdir()) == before


def test_a_place_that_cannot_be_written():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)  # root may write everywhere
            with pytest.raises(StoreError, match=r"cannot be written to .*: Permission denied .* nothing was computed"):
                store.Store(os.path.join(folder, "runs")).prepare()
            with pytest.raises(StoreError, match=r"cannot be written to .*: Permission denied"):
                store.Store(folder).prepare()
        finally:
            if root:
                os.seteuid(0)
        assert os.listdir(folder) == []


def test_failures_are_kept_until_the_shard_is_done(folder):
    folder.keep_failure(SHARDS[-1], "Traceback …\nZeroDivisionError: no", 3)
    (failure,) = folder.failures()
    assert (failure["shard"], failure["attempts"], failure["runs"]) == (SHARDS[-1].key, 3, len(SHARDS[-1].runs))
    assert "ZeroDivisionError" in failure["why"]
    folder.keep(SHARDS[-1], outcome(SHARDS[-1]), SETS)
    assert folder.failures() == []


def test_reading_what_is_no_sweep(tmp_path, folder):
    for question in (sweep.load, sweep.history, sweep.status):
        with pytest.raises(StoreError, match="holds no sweep"):
            question(tmp_path)
    (folder.path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest.json cannot be read .* delete it"):
        sweep.status(folder.path)


def test_export_is_one_file_and_whole(folder, tmp_path):
    assert sweep.export(folder.path, tmp_path / "all.parquet") == sweep.load(folder.path).height
    assert pl.read_parquet(tmp_path / "all.parquet").equals(sweep.load(folder.path), null_equal=True)
    sweep.export(folder.path, tmp_path / "all.csv")
    assert pl.read_csv(tmp_path / "all.csv", columns=["run_id"])["run_id"].n_unique() == sweep.load(folder.path).height


def test_an_empty_store_has_no_rows_and_all_columns(tmp_path):
    made = store.Store(tmp_path)
    made.prepare()
    assert sweep.load(tmp_path).shape == (0, len(store.SCHEMA()) - 1)
    assert sweep.history(tmp_path).height == 0
    assert json.dumps(made.failures()) == "[]"

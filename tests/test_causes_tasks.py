"""Trainings of the bench in a folder: done once, named by all that they depend on, damaged files done again."""

import pytest
from numpy.testing import assert_array_equal

from minirelu import data
from minirelu.causes import tasks
from minirelu.causes.recipe import BASE
from minirelu.causes.tasks import Task
from minirelu.causes.training import measured
from minirelu.errors import StoreError

TABLE = data.read("diabetes")
SMALL = BASE._replace(widths=(8, 8))
TASK = Task("diabetes", TABLE.checksum(), SMALL, 2, 20)


def test_tasks_are_kept_and_not_trained_again(tmp_path, monkeypatch):
    told = []
    tasks.train([TASK, TASK], tmp_path, 1, lambda done, total: told.append((done, total)))
    assert told == [(0, 1), (1, 1)]
    for ours, expected in zip(tasks.found(TASK, tmp_path), measured(SMALL, TABLE.X, TABLE.y, range(2), 20), strict=True):
        assert_array_equal(ours, expected)
    monkeypatch.setattr(tasks, "Processes", None)
    tasks.train([TASK], tmp_path, 1, lambda *_: None)


def test_a_damaged_file_counts_as_missing(tmp_path):
    path = tmp_path / f"{TASK.key()}.npz"
    for content in (b"", b"PK", b"nonsense"):
        path.write_bytes(content)
        assert tasks.found(TASK, tmp_path) is None
    tasks.keep(TASK, measured(SMALL, TABLE.X, TABLE.y, range(2), 20), tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    assert tasks.found(TASK, tmp_path) is None


def test_a_training_that_fails_is_said(tmp_path):
    bad = TASK._replace(recipe=SMALL._replace(optimizer="adamm"))
    with pytest.raises(StoreError, match=r"a training failed: .*did you mean 'adam'"):
        tasks.train([bad], tmp_path, 1, lambda *_: None)


def test_every_field_of_a_recipe_is_in_the_name_of_its_file():
    changed = {"widths": (9,), "activation": "elu", "batch_norm": True, "init": "he", "optimizer": "sgd", "pop_art": True}
    changed |= {name: 0.123 for name in BASE._fields if isinstance(getattr(BASE, name), float)} | {"batch": 7}
    assert changed.keys() == set(BASE._fields)
    keys = {TASK._replace(recipe=BASE._replace(**{name: value})).key() for name, value in changed.items()}
    keys |= {TASK.key(), TASK._replace(numbers="x").key(), TASK._replace(seeds=9).key(), TASK._replace(steps=9).key()}
    assert len(keys) == len(changed) + 4

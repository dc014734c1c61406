"""A line of progress is due ten seconds after the last one, and at the end."""

import io

from rich.console import Console

from minirelu import seldom
from minirelu.experiments import sweeps
from minirelu.sweep import Progress


def test_a_line_is_due_after_ten_seconds_and_at_the_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(seldom.time, "monotonic", lambda: now[0])
    due, heard = seldom.seldom(), []
    for seconds, ended in ((0, False), (9, False), (1, False), (9, False), (0, True), (9, False), (1, False)):
        now[0] += seconds
        heard.append(due(ended))
    assert heard == [False, False, True, False, True, False, True]


def test_a_sweep_says_a_line_seldom_and_moves_a_bar_in_a_terminal(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(seldom.time, "monotonic", lambda: now[0])

    def shown(tty):
        file = io.StringIO()
        with sweeps.progress(Console(file=file, width=120, force_terminal=tty, color_system=None)) as show:
            for done in range(1, 5):
                now[0] += 4
                show(Progress(done, 4, done, 4, 0, 60.0, 0.0, 1.0, 0.25, 0.5))
        return file.getvalue()

    words = "runs, dead 25 %, error 0.5, 1 runs/s"
    assert shown(tty=False).splitlines() == [f"75 %, 3 of 4 {words}", f"100 %, 4 of 4 {words}"]
    assert "100 % 4 of 4 runs" in shown(tty=True)

"""Outcomes of studies that were never trained: `made(plan, share)` gives each replica the course that `share` says."""

from minirelu.experiments import study

SGD = study.Rule("SGD", "SGD", {"lr": 0.1})
ADAM = study.Rule("Adam", "Adam", {"lr": 0.01, "beta1": 0.9})


def made(plan, share, error=lambda replica: 0.5):
    """`share(replica)` of the units of every hidden layer is dead at the end, and half of that in the middle."""
    return [outcome(plan, replica, share(replica), error(replica)) for replica in plan.replicas()]


def outcome(plan, replica, share, error):
    """One replica; a share that is None has diverged."""
    course = []
    steps = [*range(0, plan.steps, plan.every or -(-plan.steps // 20)), plan.steps]
    for i, step in enumerate(steps):
        part = i / (len(steps) - 1)
        width = replica.net.width
        dead = 0 if share is None else round(width * share * part)
        wild = width if share is None and part > 0.5 else 0
        layers = [study.Units(width, dead, 0, 0, wild)] * replica.net.depth
        course.append(study.Moment(step, float("nan") if wild else error, tuple(layers)))
    return study.Outcome(replica, tuple(course), "made up")

"""One ReLU f(wᵀx + b) on x ~ N(0, I), target Γᵀx + Δ or f(Γᵀx + Δ): everything the paper says of it, in one place.

    active_probability  cone            P(active) = Φ(b/‖w‖); dead, neither, linear                      (§5, Eq. 23)
    loss  gradient  hessian             exact, for both targets, w (..., L) and b (...)                  (Eq. 24–29)
    rotation  rotated_gradient          the paper's rotated form                                         (Eq. 13–14, 27–29)
    plane_gradient                      in the plane (w_L, b); "exact", or "figure" as the paper drew it (Eq. 30–32)
    critical_points  truncated_variance the optimum, the dead half-line, and nothing else                (§5)
    trajectory                          EMA momentum, heavy ball, Nesterov                               (Eq. 6–7)
    lowest_ratio  dies_by_overshoot     who overshoots from the linear cone into the dead one            (§5)
    basins  Reason                      where a grid of starts ends, and why                             (Fig. 4, 5)
    network  scale_factors  rescaled    homogeneity, Theorem D.1, and the factors a layer that do work   (§6, App. D)

The formulas live in population.py, plane.py, critical.py, trajectories.py, basins.py and rescaling.py.
"""

from .basins import Basins, Reason, basins
from .critical import CriticalPoint, critical_points, truncated_variance
from .plane import plane_gradient, rotated_gradient, rotation
from .population import active_probability, cone, gradient, hessian, loss
from .rescaling import network, rescaled, scale_factors
from .trajectories import Trajectory, dies_by_overshoot, lowest_ratio, trajectory

__all__ = [
    "Basins",
    "CriticalPoint",
    "Reason",
    "Trajectory",
    "active_probability",
    "basins",
    "cone",
    "critical_points",
    "dies_by_overshoot",
    "gradient",
    "hessian",
    "loss",
    "lowest_ratio",
    "network",
    "plane_gradient",
    "rescaled",
    "rotated_gradient",
    "rotation",
    "scale_factors",
    "trajectory",
    "truncated_variance",
]

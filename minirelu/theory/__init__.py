"""What the paper proves or draws (arXiv 2005.06195), as exact functions on NumPy and SciPy; knows nothing of the engine.

- `linear_system`: momentum on a quadratic, three forms of it: eigenvalues, response, overshoot (the paper's §4).
- `single_relu`: one ReLU on x ~ N(0, I): loss, gradient, Hessian, critical points, trajectories, basins (§5, §6, App. B–D).
- `born_dead`: how often a deep net is constant at initialisation (Lu et al. 2019).

Arguments may be floats, sequences or arrays of any real dtype; the arithmetic is float64 and so are the results.
The story behind the formulas: docs/theory.md.
"""

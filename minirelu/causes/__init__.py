"""Causes and remedies of dying ReLU, as changes of one thing in a training.

recipe.py     what a training is named by; its data and its first weights
cases.py      dose axes of causes, and remedies, each a change of a recipe
training.py   from a recipe to measurements, on the compiled kernel or the engine (with_engine.py)
measures.py   dead and silent units, effective rank, steps to an error
tasks.py      trainings kept in a folder
compare.py   two outcomes from the same seeds, compared seed by seed
diagnose.py   why the units of a given training die (settings.py, saved.py: the user's own)
"""

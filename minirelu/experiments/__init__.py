"""One claim of the paper (or one cause, one remedy) a file; each says what it shows and with which settings.

- `study`: dead units against the scale of the targets, for optimisers with and without momentum.
"""

"""One claim of the paper (or one cause, one remedy) a file; each says what it shows and with which settings.

- `study`: dead units against the scale of the targets, for optimisers with and without momentum. What belongs to it:
  `plans` (options to a plan), `folder` (its files), `summary` (means, intervals, words), `figures`, `screen` (the table).
- `fig2` … `fig5`: the paper's figures of that number, from `minirelu.theory`; `panels` is what 4 and 5 share.
- `fig1`, `fig6`: the paper's figures on trained nets, `momentum` a question that they leave open, and there `survival` and
  `deaths` say when units die; `networks` (sizes, data, runs, rates) and `verdicts` are for all such.
- `reproduce`: those figures by name, and how they are written to files.
"""

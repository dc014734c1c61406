"""Training: minibatches by counter, the loop for any net, and whole runs of many ReLU MLPs at once.

for x, t in train.minibatches(X, y, batch=64, seeds=0, steps=1000):
    loss = losses.mse(net(x), t); loss.backward(); opt.step()

train.fit(net, opt, X, y, steps=1000, seeds=0)                       that loop
train.train_mlp(X, y, steps=250_000, seeds=range(8), gamma=1e-4)      R replicas, in a compiled kernel where there is one
"""

from .loop import fit as fit
from .loop import minibatches as minibatches
from .mlp import TrainResult as TrainResult
from .mlp import train_mlp as train_mlp

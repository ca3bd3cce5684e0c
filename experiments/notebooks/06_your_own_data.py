# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own data, from nothing to samples in ten lines
#
# No study, no file of settings: data, `pfgm.fit`, `field.sample`. Here the data are 500 pictures of 8 × 8 pixels, each with one
# bright spot somewhere, so that you see at a glance whether a sample is right: one spot, round, anywhere.

# %%
import matplotlib.pyplot as plt
import numpy as np

import pfgm

rows, columns = np.mgrid[0:8, 0:8]
at = np.random.default_rng(0).uniform(1, 6, (500, 2, 1, 1))
pictures = np.exp(-((rows - at[:, 0]) ** 2 + (columns - at[:, 1]) ** 2) / 4)  # (500, 8, 8), in [0, 1]

field = pfgm.fit(pictures, steps=1200, batch_size=64, learning_rate=3e-3, network={"width": 128}, progress=False)
samples = field.sample(16)
print(samples.shape)

# %% [markdown]
# The keywords make this cell take a few seconds, and leave some grain in the samples. For your own data leave them out and
# write `minutes=10`: the network follows from the shape, the steps from the time, and a bar shows how much is left. Ctrl-C (in
# a notebook: the stop button) keeps what is trained so far.
#
# Pictures in [0, 1] are brought to [−1, 1], which the warning above says, and samples lie there.

# %%
_, axes = plt.subplots(2, 8, figsize=(8, 2.4), dpi=72)
for row, items, name in zip(axes, (pictures, samples[:, 0]), ("data", "samples"), strict=True):
    row[0].set_title(name, loc="left")
    for ax, item in zip(row, items, strict=False):
        ax.imshow(item, cmap="gray")
        ax.axis("off")

# %% [markdown]
# ## Is it good?
#
# `evaluate` compares samples with data. `fid` is the Fréchet distance, `fid_floor` that of the data's own resamplings (no model
# is expected below it), and `fid_gaussian` that of a Gaussian with the data's mean and covariance. `nn_ratio` far below 1
# would mean that pictures are remembered, not made.

# %%
found = pfgm.evaluate(field, pictures)
print({name: round(found[name], 4) for name in ("fid", "fid_floor", "fid_gaussian", "precision", "recall", "nn_ratio")})

# %% [markdown]
# ## Keep it, and carry it away
#
# `save` writes a folder that `pfgm.load_field` and every study read. `export` writes plain torch: one Python file with the
# network and a sampler of 30 lines, and its weights, for a project that has never heard of `pfgm`.

# %%
import sys  # noqa: E402
import tempfile  # noqa: E402

folder = tempfile.mkdtemp()
field.save(f"{folder}/spots")
field.export(f"{folder}/plain_spots")

sys.path.insert(0, folder)  # as if we were that project
from plain_spots.field import Field, sample  # noqa: E402

print(sample(Field(), 4).shape)

# %% [markdown]
# ## Other data
#
# | you have | you write |
# |---|---|
# | a folder of photos | `pfgm.fit("photos/", minutes=30)`; sizes that differ become 32 × 32, or `data={"size": 64}` |
# | a table | `pfgm.fit("table.csv", minutes=1)`; samples come back in its units |
# | an array or tensor, vectors (N, d) or images | `pfgm.fit(x)` |
# | a torch `Dataset` | `pfgm.fit(dataset)`; labels in its tuples are left out |
#
# The same without Python: `python -m pfgm fit photos/ my_field --minutes 30`, then
# `python -m pfgm sample my_field samples.png`.

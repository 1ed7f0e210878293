"""Fits that change something, without having learned anything."""

import numpy as np

from clipdiy.learning.learned import Learned, label_keys
from clipdiy.learning.naming import NamingWeights


def made_up(vocabulary, *, encoder="fake", pictures=1, seed=0, dim=4):
    """A fit of all labels of a vocabulary."""
    keys = label_keys(vocabulary)
    rng = np.random.default_rng(seed)
    naming = NamingWeights(
        np.arange(len(keys)),
        rng.normal(size=(len(keys), dim)).astype(np.float32),
        rng.normal(size=len(keys)).astype(np.float32),
        rng.normal(size=dim).astype(np.float32),
        0.0,
    )
    return Learned(encoder, 100.0, keys, (1,) * len(keys), pictures, naming, None, 10.0)


def words(*, encoder="fake", pictures=1):
    """A fit that changes nothing."""
    return Learned(encoder, 100.0, (), (), pictures, None, None, float("inf"))

"""What several parts of the evaluation are tested on."""

import pytest
from miniature import plan, write_five

from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.evaluator import Evaluator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_five(tmp_path_factory.mktemp("data") / "voc")


@pytest.fixture(scope="module")
def evaluator(folder):
    keys = ("clip-diy", "no-multi-scale", "no-objectness", "found-bkg", "maskclip", "stride-full", "pamr", "prune-2")
    return Evaluator(plan(*keys), open_folder(folder))

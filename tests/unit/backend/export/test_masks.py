"""A PNG for each class, read by what the format says."""

import numpy as np
import pytest
from data_sets import encoded, maps_of_five, pixels, project_of_five, source
from PIL import Image

from backend.export.exporting import export_project


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export_project(source(project_of_five(), ignore=("Unsure",), val_share=0), "masks", out)
    return out


def test_masks(out):
    folders = {"001-Cat": 1, "002-Dog": 2, "ignored": 65_535}
    assert {path.name for path in (out / "masks/train").iterdir()} == set(folders)
    for task, label_map in maps_of_five().items():
        for folder, number in folders.items():
            path = out / "masks/train" / folder / f"0000{task}-picture{task}.png"
            assert path.exists() == (label_map == number).any()
            if path.exists():
                mask = np.asarray(Image.open(path))
                assert (mask == np.where(label_map == number, 255, 0)).all()
                assert mask.dtype == np.uint8


def test_all_pictures_are_there(out):
    assert len([*(out / "images/train").iterdir()]) == 4
    assert (out / "images/unlabelled/000013-picture13.png").read_bytes() == encoded(pixels(13))
    assert not (out / "masks/unlabelled").exists()

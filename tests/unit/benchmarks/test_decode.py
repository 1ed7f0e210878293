"""Large photos are read at a fraction of their size, and the networks see the same."""

import pytest

from benchmarks.decode import objectness_cosine, photo_file, smallest_cosine
from clipdiy.build import build_segmenter
from clipdiy.config import preset
from clipdiy.photo import Photo, decode_photo
from clipdiy.segmenter import Segmenter

SIZE_WH = (2400, 1800)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return build_segmenter(preset("starter", device="cpu", dtype="float32"), warm_up=False)


def read(data: bytes, segmenter: Segmenter, *, reduced: bool) -> Photo:
    if not reduced:
        return decode_photo(data, max_px=10**8)
    return decode_photo(data, max_px=10**8, keep_px=segmenter.keep_long_px, keep_short_px=segmenter.keep_short_px)


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_photo_read_small_has_the_features_of_the_whole(segmenter: Segmenter, progressive: bool) -> None:
    data = photo_file(SIZE_WH, progressive=progressive)
    whole, small = (read(data, segmenter, reduced=reduced) for reduced in (False, True))
    assert whole.size_hw == small.size_hw == SIZE_WH, "turned by its orientation"
    assert small.pixels.size < whole.pixels.size / 4
    [expected], [features] = segmenter.encode([whole]), segmenter.encode([small])
    assert smallest_cosine(expected, features) >= 0.999
    assert objectness_cosine(expected, features) >= 0.999

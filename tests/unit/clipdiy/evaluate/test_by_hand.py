"""Folders so small that their mIoU is worked out on paper, through the whole evaluation; only the answers are given."""

import numpy as np
import pytest
from miniature import TINY, write_voc

from clipdiy.evaluate.datasets.voc import open_folder
from clipdiy.evaluate.evaluator import Evaluator, Plan
from clipdiy.evaluate.protocol import PROTOCOLS
from clipdiy.evaluate.runner import Job, run
from clipdiy.evaluate.variants import VARIANTS
from clipdiy.segmentation import Segmentation
from clipdiy.segmenter import Segmenter

TRUTHS = [
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 255]],
    [[0, 0, 0, 0]] * 4,
]
ANSWERS = [
    [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 2, 0], [0, 0, 2, 0]],
    [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
]
# Both pictures together; the pixel 255 counts nowhere.
#   background: 6 + 15 hits of 9 + 16 pixels in truth or answer
#   class 1:    4 + 0 hits of 6 + 1
#   class 2:    2 hits of 3
IOU = [21 / 25, 4 / 7, 2 / 3]
RIGHT = (6 + 15 + 4 + 2) / (15 + 16)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("scale", [1, 3], ids=["as it is", "three times as large"])  # no matter to mmseg
def test_miou_of_two_pictures(tmp_path, monkeypatch, scale, protocol):
    answers = iter(ANSWERS)

    def answer(self, features, vocabulary, options):
        # Asked for at the picture's own size, or with the authors at that of the comparison.
        larger = scale if protocol.answer_as_compared else 1
        assert features.size_hw == (4 * larger, 4 * larger)
        label_map = np.kron(np.array(next(answers)), np.ones((larger, larger))).astype(np.uint16)
        return Segmentation(label_map, np.zeros(3), np.zeros(3, np.float32), 0.0)

    monkeypatch.setattr(Segmenter, "segment", answer)
    write_voc(tmp_path / "voc", TRUTHS, ending="png")
    (tmp_path / "voc" / "classes.txt").write_text("cat\ndog")
    plan = Plan(TINY, (VARIANTS["clip-diy"],), short_px=4 * scale, protocol=protocol)
    finished = run(
        Evaluator(plan, open_folder(tmp_path / "voc", protocol)),
        Job(f"folder:{tmp_path / 'voc'}", tmp_path, tmp_path / "records.jsonl"),
    )
    found = finished.tallies["clip-diy"].quality
    np.testing.assert_allclose(found.iou, IOU)
    assert found.miou == pytest.approx(sum(IOU) / 3)
    assert found.accuracy == pytest.approx(RIGHT)

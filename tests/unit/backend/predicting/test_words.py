import pytest

from backend.labeling.reader import parse_label_config
from backend.predicting.fair_pool import FairPool
from backend.predicting.words import SLICE, Words

CONFIG = """<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{}</BrushLabels></View>"""


def config(*labels):
    return parse_label_config(CONFIG.format("".join(f'<Label value="{label}"/>' for label in labels)))


class Embedder:
    def __init__(self):
        self.slices = []

    def embed_prompts(self, prompts):
        self.slices.append(list(prompts))
        if any("broken" in prompt for prompt in prompts):
            raise RuntimeError("no")


@pytest.fixture
def words():
    pool = FairPool(1, "networks")
    embedder = Embedder()
    made = Words(embedder, pool)
    made.slices = embedder.slices
    yield made
    pool.close()


def learn(words, *labels):
    for future in words.learn(config(*labels), "7"):
        future.result(10)


def test_every_prompt_is_embedded_once(words):
    learn(words, "Cat", "Dog")
    learn(words, "Dog", "Cow", "Cat")
    assert words.slices == [["a photo of a background", "a photo of a Cat", "a photo of a Dog"], ["a photo of a Cow"]]
    assert words.learn(config("Cow", "Cat"), "7") == []


def test_long_lists_come_in_slices_so_that_others_have_their_turn(words):
    learn(words, *(f"thing {i}" for i in range(2 * SLICE)))
    assert [len(part) for part in words.slices] == [SLICE, SLICE, 1]


def test_what_failed_is_tried_again(words):
    for _ in range(2):
        with pytest.raises(RuntimeError):
            learn(words, "broken")
    assert len(words.slices) == 2


def test_a_control_that_draws_nothing_needs_no_words(words):
    only_background = config("Background", "Cat")
    assert words.learn(only_background, "7")
    task_labels = CONFIG.replace('toName="i"', 'toName="i" value="$labels"').format("")
    assert words.learn(parse_label_config(task_labels), "7") == []

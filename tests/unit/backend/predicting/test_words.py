import threading

import pytest

from backend.labeling.reader import parse_label_config
from backend.predicting.fair_pool import FairPool, Lane
from backend.predicting.words import SLICE, Words

CONFIG = """<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{}</BrushLabels></View>"""


def config(*labels):
    return parse_label_config(CONFIG.format("".join(f'<Label value="{label}"/>' for label in labels)))


class Embedder:
    def __init__(self):
        self.slices = []
        self.chosen = []

    def choose_others(self, vocabulary, words=None):
        self.chosen.append((vocabulary.names, words, len(self.slices)))

    def other_prompts(self, words=None):
        return tuple(f"a photo of a {word}" for word in (("cup", "plate") if words is None else words))

    def embed_prompts(self, prompts):
        self.slices.append(list(prompts))
        if any("broken" in prompt for prompt in prompts):
            raise RuntimeError("no")


@pytest.fixture
def words():
    pool = FairPool(1, "networks")
    embedder = Embedder()
    made = Words(embedder, pool)
    made.slices, made.chosen = embedder.slices, embedder.chosen
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


def test_others_are_embedded_too_and_once(words):
    beside = CONFIG.replace('toName="i"', 'toName="i" others="{}"')
    for others in ("bowl", "auto", "none"):
        asked = parse_label_config(beside.format(others, '<Label value="Cat"/>'))
        for future in words.learn(asked, "7"):
            future.result(10)
    own = ["a photo of a background", "a photo of a Cat"]
    assert words.slices == [[*own, "a photo of a bowl"], ["a photo of a cup", "a photo of a plate"]]
    assert len(words.learn_others()) == 1, "nothing is left to embed"


def test_the_first_choice_is_made_before_anybody_asks(words):
    for future in words.learn_others():
        future.result(10)
    assert words.chosen == [(("background", "object"), None, 1)]


def test_who_gives_up_leaves_nothing_to_embed(words):
    free, begun = threading.Event(), threading.Event()
    words._networks.submit(lambda: begun.set() or free.wait(10))
    assert begun.wait(10)

    def give_up():
        with words.learning(config("Cat"), "7", Lane.INTERACTIVE) as learning:
            learning[0].result(0)

    with pytest.raises(TimeoutError):
        give_up()
    free.set()
    learn(words, "Dog")
    assert words.slices == [["a photo of a background", "a photo of a Dog"]]


def test_who_waits_has_everything(words):
    with words.learning(config("Cat"), "7", Lane.INTERACTIVE) as learning:
        for future in learning:
            future.result(10)
    assert words.learn(config("Cat"), "7") == []


def test_each_slice_takes_turns_as_whoever_asks_for_it(words):
    asked = []
    submit = words._networks.submit
    words._networks.submit = lambda job, **turn: asked.append(turn) or submit(job, **turn)
    many = config(*(f"thing {i}" for i in range(SLICE)))
    for future in words.learn(many, "7", Lane.INTERACTIVE) + words.learn(config("Cat"), "8"):
        future.result(10)
    assert asked == [
        *[{"owner": "7", "lane": Lane.INTERACTIVE}] * 2,
        {"owner": "8", "lane": Lane.REQUEST},
    ]

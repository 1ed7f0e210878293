"""Which others stay beside a label, and which go: a label must never lose to its own kind."""

import pytest

from clipdiy.others.kin import Kin, Kinship, meaning_of, noun_for
from clipdiy.others.nouns import default_nouns
from clipdiy.others.relations import load_relations

# label: others that go, others that stay. A label as a person writes it; whole prompts further down.
PAIRS = {
    "dog": ("dog, puppy", "cat, wolf, fox, horse, person, teddy bear, chair, bear"),
    "cat": ("cat, lynx", "dog, lion, tiger, rabbit, mouse, sofa, person"),
    "puppy": ("dog, puppy", "kitten, cat, wolf"),
    "animal": ("dog, cat, horse, bird, fish, butterfly, snake, elephant", "person, car, tree, apple, teddy bear"),
    "pet": ("dog, cat, hamster, goldfish, parrot, puppy", "cow, elephant, car"),
    "livestock": ("cow, sheep, pig, goat", "dog, elephant, lion"),
    "poodle": ("dog", "cat, puppy, sheep"),
    "bird": ("bird, duck, penguin, owl, parrot, seagull", "airplane, butterfly, kite, bat"),
    "duck": ("duck, bird, duckling", "goose, swan, chicken"),
    "horse": ("horse, pony", "zebra, donkey, cow, carriage"),
    "elephant": ("elephant", "rhinoceros, hippopotamus, horse, person, tree"),
    "insect": ("bee, ant, butterfly, beetle, fly", "spider, snail, bird"),
    "person": ("person, man, woman, boy, girl, child, baby", "dog, horse, chair, bicycle, backpack"),
    "people": ("person, man, woman", "dog, car"),
    "man": ("man, person", "woman, girl, dog"),
    "woman": ("woman, person", "man, boy"),
    "pedestrian": ("person, man, woman", "bicycle, car, dog"),
    "face": ("person, man, woman", "clock, mask, dog"),
    "vehicle": ("car, truck, bus, train, bicycle, boat, airplane, motorcycle, tractor", "horse, house, person"),
    "car": ("car, taxi, jeep, limousine, police car, convertible", "truck, bus, bicycle, house, person"),
    "cars": ("car, taxi", "truck, boat"),
    "truck": ("truck, fire engine, pickup truck, garbage truck", "car, bus, train"),
    "fire truck": ("fire engine, truck", "car, ambulance, bus"),
    "bus": ("bus, school bus, minibus", "car, truck, train"),
    "bike": ("bicycle, motorcycle", "car, horse, skateboard"),
    "motorbike": ("motorcycle, moped", "bicycle, car"),
    "aircraft": ("airplane, helicopter, jet, glider, hot-air balloon", "bird, kite, car"),
    "plane": ("airplane, jet", "helicopter, bird, boat"),
    "boat": ("boat, canoe, rowboat, ferry", "car, airplane, surfboard"),
    "wheel": ("car, bicycle, truck, motorcycle, wheelbarrow", "boat, dog, plate"),
    "wing": ("bird, butterfly, eagle", "car, dog, horse"),
    "feather": ("bird, parrot, peacock", "dog, pillow, hat"),
    "antler": ("deer", "dog, horse, cow"),
    "tail": ("dog, cat, horse", "person, car"),
    "handle": ("knife, umbrella, frying pan", "dog, apple"),
    "window": ("window, house, church", "curtain, tree, picture frame"),
    "roof": ("house, church, barn", "car, umbrella"),
    "leaf": ("tree, flower, houseplant", "butterfly, frog"),
    "fruit": ("apple, banana, orange, strawberry, pineapple, grape, tomato", "carrot, bread, flower"),
    "vegetable": ("carrot, potato, onion, broccoli, tomato", "banana, bread, tree"),
    "berry": ("strawberry, raspberry, blueberry", "apple, carrot"),
    "food": ("apple, pizza, bread, cake, carrot, hamburger", "bottle, fork, plate, cactus"),
    "apple": ("apple", "orange, pear, tomato, ball"),
    "slice of pizza": ("pizza", "cake, bread, plate"),
    "cup of coffee": ("cup, coffee", "bottle, plate, spoon"),
    "mug": ("mug", "cup, glass, bottle"),
    "drink": ("beer, wine, coffee, juice", "apple, bread"),
    "bread": ("bread, baguette, bun, bagel, toast", "cake, pizza"),
    "hot dog": ("hot dog, sausage", "dog, hamburger, puppy"),
    "furniture": ("chair, sofa, table, bed, desk, wardrobe", "lamp, carpet, television, person"),
    "chair": ("chair, armchair, rocking chair, wheelchair", "sofa, table, bench"),
    "couch": ("sofa, loveseat", "chair, bed"),
    "table": ("table, desk, dining table, coffee table", "chair, plate, lamp"),
    "clothes": ("shirt, trousers, dress, jacket, hat", "shoe, person, bag"),
    "footwear": ("shoe, boot, sandal, sock", "hat, glove"),
    "shoe": ("shoe, sneaker, sandal, high heels", "hat, sock"),
    "hat": ("hat, sombrero, cowboy hat, top hat", "shoe, umbrella"),
    "building": ("house, church, skyscraper, castle, barn", "car, tree, bridge"),
    "house": ("house, castle, door", "car, tree, church"),
    "tree": ("tree, palm tree, pine, willow", "cactus, house, sunflower"),
    "flower": ("flower, rose, tulip, sunflower, daisy", "tree, cactus, vase"),
    "plant": ("tree, flower, cactus, sunflower, houseplant", "dog, vase, car"),
    "sign": ("stop sign, street sign, billboard", "car, tree"),
    "traffic light": ("traffic light", "stop sign, lamp, car"),
    "toy": ("doll, teddy bear, kite", "dog, car, book"),
    "ball": ("ball, soccer ball, tennis ball, basketball", "balloon, orange, dog"),
    "musical instrument": ("guitar, piano, drum, trumpet", "microphone, radio"),
    "guitar": ("guitar, electric guitar", "violin, banjo"),
    "tool": ("hammer, screwdriver, saw, shovel", "table, dog, car"),
    "weapon": ("sword, gun, rifle, bow and arrow", "hammer, dog"),
    "container": ("bottle, box, cup, vase, basket", "dog, chair, book"),
    "bag": ("handbag, backpack, plastic bag", "box, shoe"),
    "bottle": ("bottle, wine bottle, water bottle", "cup, vase, glass"),
    "kitchen appliance": ("toaster, blender, stove, oven", "table, cup, chair"),
    "electronics": ("television, telephone, computer, camera, laptop", "lamp, book"),
    "computer": ("computer, laptop", "television, book, telephone"),
    "phone": ("telephone, mobile phone", "camera, book"),
    "screen": ("television, computer monitor, laptop", "window, book"),
    "mouse": ("mouse, computer mouse", "rat, cat, keyboard"),
    "crane": ("crane, bird", "truck, dog"),
    "driver": ("person", "car, dog"),
    "printer": ("printer", "person, scanner, book"),
    "sky": ("", "airplane, bird, kite"),
    "grass": ("", "cow, tree, dog"),
}  # fmt: skip
ROWS = [
    pytest.param(label, other.strip(), goes, id=f"{label}-{other.strip()}-{'goes' if goes else 'stays'}")
    for label, sides in PAIRS.items()
    for goes, others in zip((True, False), sides, strict=True)
    for other in others.split(",")
    if other.strip()
]


@pytest.fixture(scope="module")
def relations():
    return load_relations()


@pytest.fixture(scope="module")
def known():
    return {noun.name: noun for noun in default_nouns()}


def kinship(label, other, relations):
    return Kin([other], relations).of(label).get(0)


def related(label, other, relations, known):
    return kinship(meaning_of((label,), relations), noun_for(other, relations, known), relations)


def test_what_lies_in_files_is_read_once():
    assert default_nouns() is default_nouns()
    assert load_relations() is load_relations()


def test_a_list_is_asked_at_once(relations, known):
    kin = Kin([known[name] for name in ("cat", "dog", "chair", "puppy")], relations)
    assert kin.of(meaning_of(("dog",), relations)) == {1: Kinship.SAME, 3: Kinship.KIND}
    assert kin.of(meaning_of(("animal", "a photo of a chair"), relations)) == {
        0: Kinship.KIND,
        1: Kinship.KIND,
        2: Kinship.SAME,
        3: Kinship.KIND,
    }


def test_the_table_is_long_enough():
    assert len(ROWS) >= 200


@pytest.mark.parametrize(("label", "other", "goes"), ROWS)
def test_whether_an_other_stays_beside_a_label(label, other, goes, relations, known):
    found = related(label, other, relations, known)
    assert (found is not None) == goes, found


@pytest.mark.parametrize(
    ("label", "other", "why"),
    [
        ("dog", "dog", Kinship.SAME),
        ("dogs", "dog", Kinship.SAME),
        ("women", "woman", Kinship.SAME),
        ("sofa bed", "sofa", Kinship.WIDER),
        ("couch", "sofa", Kinship.SYNONYM),
        ("animal", "dog", Kinship.KIND),
        ("poodle", "dog", Kinship.WIDER),
        ("bicycle", "chain", Kinship.PART),
        ("feather", "bird", Kinship.WHOLE),
        ("dog", "chair", None),
    ],
)
def test_why_an_other_goes(label, other, why, relations, known):
    assert related(label, other, relations, known) is why


@pytest.mark.parametrize(
    ("prompts", "other", "goes"),
    [
        pytest.param(("a photo of a dog",), "dog", True, id="the published template"),
        pytest.param(("itap of a dog.",), "dog", True, id="another template"),
        pytest.param(("a red fire truck in the street",), "fire engine", True, id="where it is does not matter"),
        pytest.param(("a red fire truck in the street",), "street sign", False, id="nor is it named"),
        pytest.param(("a photo of a Hund",), "dog", False, id="words that are not known say nothing"),
        pytest.param(("a photo of a dog", "a photo of a cat"), "cat", True, id="every prompt counts"),
        pytest.param(("dog and cat",), "cat", True, id="two things"),
        pytest.param(("",), "dog", False, id="no word"),
    ],
)
def test_prompts_are_read(prompts, other, goes, relations, known):
    assert (kinship(meaning_of(prompts, relations), known[other], relations) is not None) == goes


def test_a_word_that_a_person_names_is_looked_up_too(relations, known):
    poodle = noun_for("poodle", relations, known)
    assert kinship(meaning_of(("animal",), relations), poodle, relations) is Kinship.KIND
    assert kinship(meaning_of(("poodle",), relations), poodle, relations) is Kinship.SAME
    flurb = noun_for("flurb", relations, known)
    assert kinship(meaning_of(("dog",), relations), flurb, relations) is None
    assert kinship(meaning_of(("a photo of a flurb",), relations), flurb, relations) is Kinship.SAME

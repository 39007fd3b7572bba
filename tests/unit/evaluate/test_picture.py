from xml.etree import ElementTree

import numpy as np

from mofang.make.evaluate.metrics import score
from mofang.make.evaluate.picture import confusion_svg

NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"),
    "An ankle boot & <more>",
)


def _texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_every_count_and_every_label_is_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 5000)
    scores = score(truth, np.where(rng.random(5000) < 0.2, rng.integers(0, 10, 5000), truth), NAMES)
    texts = _texts(confusion_svg(scores, "digits@1"))

    assert texts[0] == "digits@1"
    assert "5,000 rows" in texts[1]
    assert all(texts.count(name) == 2 for name in NAMES)
    counts = [str(count or "·") for row in scores.confusion for count in row]
    assert texts[-100:] == counts


def test_names_that_are_markup_or_control_characters_stay_text() -> None:
    names = ("</text><script>alert(1)</script>", "a\x00\x1b[31mb", 'quo"te', "")
    svg = confusion_svg(score(np.array([0, 1, 2, 3]), np.array([0, 1, 2, 2]), names))
    root = ElementTree.fromstring(svg)
    assert not [node for node in root.iter() if "script" in str(node.tag)]
    assert "a[31mb" in _texts(svg)


def test_many_classes_still_make_a_picture() -> None:
    truth = np.arange(100)
    svg = confusion_svg(score(truth, truth, tuple(f"class {i}" for i in range(100))))
    assert float(ElementTree.fromstring(svg).attrib["width"]) < 4000

"""The vocabulary: 271 words in disjoint classes."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


END_OF_TEXT = "<|endoftext|>"

ADJECTIVES = _words(
    "old young tall short clean rusty pale broad narrow gentle fierce plain"
    " early late deep shallow sweet bitter smooth rough calm proud humble hidden"
)
NOUNS = _words(
    "river stone house road lantern boat bell child window field barrel ladder"
    " basket candle mirror pillow needle button harbor valley forest meadow island tower"
    " kettle carpet engine wagon anchor blanket cradle fiddle pocket shadow winter thunder"
)
VERBS = _words(
    "finds makes holds keeps needs loves fears moves turns builds"
    " takes brings feeds calls hides saves breaks paints guards follows"
)
PLACES = _words("over under before behind beside near without after")
NAMES = _words("ada boris clara dora edgar fiona gustav hanna igor julia karl lena milo nina otto petra")
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen"
)
VARIABLES = _words("alpha beta gamma delta omega sigma kappa theta")
SYMBOLS = tuple("bcdefghijklmnopqrstuvwxyz")  # no "a": it is the article

MEMBERS = {
    "animal": _words("lion otter wolf badger fox deer goat sheep rabbit mole"),
    "fruit": _words("apple pear plum cherry grape lemon peach quince fig mango"),
    "tool": _words("hammer saw drill chisel wrench axe rasp shovel rake clamp"),
    "metal": _words("iron copper tin zinc lead nickel cobalt chrome tungsten brass"),
    "country": _words("france spain italy norway latvia poland greece egypt kenya chile"),
    "planet": _words("mercury venus mars jupiter saturn uranus neptune pluto ceres eris"),
    "drink": _words("tea coffee milk juice cider cocoa lemonade water broth wine"),
    "game": _words("chess poker tennis golf hockey rugby bingo darts cricket ludo"),
}
CATEGORIES = tuple(MEMBERS)
ENTITIES = tuple((member, category) for category, members in MEMBERS.items() for member in members)

GRAMMAR = _words(
    "the a no every who is not . , : ; ? as they say says has write sentence ending with"
    " repeat pattern let mean plus"
)

# Ids follow this order; end of text is 0.
VOCABULARY: dict[str, int] = {
    word: id_
    for id_, word in enumerate(
        [
            *(END_OF_TEXT, *GRAMMAR, *ADJECTIVES, *NOUNS, *VERBS, *PLACES, *NAMES, *NUMBERS, *VARIABLES),
            *(*CATEGORIES, *(member for member, _ in ENTITIES), *SYMBOLS),
        ]
    )
}

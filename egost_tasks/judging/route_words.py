"""The words that the offline route rubric knows: what is no landmark, and what is the same landmark.

Collected from the wording of route descriptions in general and of the released ST-R1 rows.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
    """
    a an the this that these those some any each every another other others both all few several
    many more most one two three four five six seven eight nine ten first second third fourth last
    next same own such i you he she it we they me him her us them my your his its our their yourself
    itself someone who which what where when while whose how why there here then thus so hence
    therefore now again also too very just only still yet already finally eventually immediately
    once twice thrice afterwards afterward later soon almost about approximately roughly and or but
    nor not no if because since as than like unlike without with within of for from to into onto
    toward towards at in on off by near nearby beside besides past through throughout across along
    alongside around round over under above below between among behind before after until till upon
    up down out away back backward backwards forward forwards ahead straight straightforward left
    right leftward rightward lefthand righthand hand side sides inside outside opposite front rear
    end middle center centre top bottom edge beyond via per during against be is are was were been
    being am do does did have has had will would can could should shall may might must bit little
    way ways direction directions point points start starting beginning destination destinations
    route step steps pace paces meter meters metre metres foot feet degree degrees seconds moment
    moments time times minute minutes slightly position spot place places part view scene video clip
    camera wearer person people man woman user egocentric thing things something order total rest
    distance long short far close big small large left-hand please sure ok okay yes answer question
    score scores rating five-star full marks reference prediction space area upstairs downstairs
    rightmost leftmost original further closer nearer item items object objects landmark landmarks
    scenery left-most semantic logic judge note whole either neither sooner fast done cannot always
    never ever almost nothing everything easy slow quick
    """
)

VERBS = _words(
    """
    adjust advance appear approach arrive ascend ask bear become begin bend bring call capture carry
    change choose circle clean climb close come complete contain continue cross crouch curve cut
    descend describe do drink drop eat emerge enter exit face fetch film find finish follow get give
    go grab guide hang have head help hold ignore include indicate inspect keep kneel know lead lean
    leave let lie lift locate look loop make mark meet move navigate need notice observe open pass
    perform pick pivot place play point pour proceed provide pull push put raise reach read record
    remain remember remove return reverse rise rotate run say see seem set shift show sit slow spin
    squat stand start stay step stop stroll swing switch take tell think throw touch travel traverse
    try turn twirl twist use veer wait walk want wash wear wipe write straighten soak tidy fold fill
    knock sweep retreat rinse slice stir dry wake tiptoe deserve explore peel dash stretch jump hop skip crawl
    clap nod
    """
)

IRREGULAR_VERBS = _words(
    """
    began brought came chose did drank drew ate fell felt found gave gone got had held hung kept
    knew laid lay led left made met put ran rose said sat saw seen shown stood swung taken thought
    threw told took went wore woke written wrote
    """
)

ING_NOUNS = _words(
    """
    awning bedding building carving ceiling clearing clothing crossing dining drawing dwelling
    flooring landing lighting living opening painting parking paving railing ring scaffolding
    seating shopping siding sing spring string swimming swing teaching washing waiting wing
    """
)

LY_NOUNS = _words("assembly family fly jelly lily")

COLOURS = _words(
    """
    amber beige black blue bronze brown cream crimson cyan gold golden gray green lime magenta
    maroon navy olive orange pink purple red silver tan teal turquoise white yellow
    """
)

PATTERNS = _words("checkered diamond dotted gradient grid plain ringed striped wavy")

_LIGHTS = r"(?:the |a |some )?lights?"
_SWITCHED = r"(?:on|off|out)(?: and (?:then )?(?:on|off))?(?: again)?\b"

PHRASES: tuple[tuple[str, str], ...] = (
    (
        r"\blook(?:s|ed|ing)? (?:up|down)(?: (?:at|to|towards?))?(?: the)? (?:ceiling|floor|ground|sky|feet)\b",
        " ",
    ),
    (rf"\b(?:switch|turn)(?:e?s|ed|ing)? (?:{_LIGHTS} {_SWITCHED}|{_SWITCHED} {_LIGHTS}\b)", " "),
    (r"zebra[ -]?crossings?|pedestrian crossings?|crosswalks?", "crosswalk"),
    (r"(?:car parks?|parking (?:lots?|areas?|spaces?)|carparks?)", "carpark"),
    (r"(?:trash|garbage|rubbish|waste|litter|dust)[ -]?(?:cans?|bins?|baskets?|boxes)", "bin"),
    (r"(?:living|sitting) ?rooms?|lounges?", "livingroom"),
    (r"dining (?:rooms?|areas?)", "diningroom"),
    (r"bed ?rooms?", "bedroom"),
    (r"(?:bath|rest|wash) ?rooms?|toilets?", "bathroom"),
    (r"(?:class|lecture) ?rooms?", "classroom"),
    (r"laundry rooms?", "laundry"),
    (r"book ?(?:shelf|shelves|cases?)", "bookcase"),
    (r"traffic lights?|stop ?lights?", "trafficlight"),
    (r"t[ -]junctions?|cross[ -]?roads?", "intersection"),
    (r"polka[ -]dot(?:ted|s)?", "dotted"),
    (r"check(?:er|ed)?[ -]?board(?: pattern(?:ed)?)?", "checkered"),
    (
        r"(?:dark|light|bright|pale|deep)[ -](?=(?:red|blue|green|gray|grey|brown|pink|yellow|orange|purple)\b)",
        "",
    ),
    (r"(?<=\w)-?colou?red\b", ""),
    (r"tv ?stands?", "tvstand"),
)
"""Phrases of several words, as patterns, with the one word that stands for them; a gesture stands for nothing."""

SAME_WORD: dict[str, str] = {
    "aisleway": "aisle",
    "appartment": "apartment",
    "artwork": "painting",
    "carpet": "rug",
    "chequered": "checkered",
    "checked": "checkered",
    "check": "checkered",
    "checker": "checkered",
    "couch": "sofa",
    "cupboard": "cabinet",
    "doorway": "door",
    "footpath": "pavement",
    "fridge": "refrigerator",
    "gateway": "gate",
    "golden": "gold",
    "grey": "gray",
    "hall": "corridor",
    "hallway": "corridor",
    "junction": "intersection",
    "lamp": "light",
    "monitor": "screen",
    "passage": "corridor",
    "passageway": "corridor",
    "photo": "painting",
    "picture": "painting",
    "pictorial": "painting",
    "ring": "ringed",
    "settee": "sofa",
    "sidewalk": "pavement",
    "solid": "plain",
    "spotted": "dotted",
    "dot": "dotted",
    "spot": "dotted",
    "staircase": "stair",
    "stairway": "stair",
    "stripe": "striped",
    "stripey": "striped",
    "stripy": "striped",
    "street": "road",
    "television": "tv",
    "violet": "purple",
    "wardrobe": "closet",
    "wooden": "wood",
}
"""Singular words, and the word that stands for each."""

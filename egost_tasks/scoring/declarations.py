"""How an answer is declared in other languages than English and Chinese, and what takes a declaration back.

Latin letters alone are read: a Cyrillic or Arabic letter of an option is none, since its place in the alphabet is
another. Only ASCII is in lower case where these leads are sought.

Denied are "It cannot be that the answer is C" and "Final answer: C is wrong": what comes before a declaration denies
it within the same clause, what comes behind it directly. A wrong letter is worse than none, so a clause that may deny
counts as one that does.
"""

from __future__ import annotations

import re

_JAPANESE = r"(?:正解|解答|回答|選択肢|正しいもの)(?:は|が|:)(?:選択肢)?"
_KOREAN = r"(?:정답|답변|답)(?:은|는|:)(?: ?(?:선택지|보기|옵션))?"
_SPANISH = (
    r"(?:respuesta|opción|alternativa)(?: (?:correcta|final|adecuada))?(?: (?:es|sería)|:)(?: (?:la|el))?"
    r"(?: (?:opción|letra|respuesta|alternativa))?"
)
_PORTUGUESE = (
    r"(?:resposta|opção|alternativa)(?: (?:correta|certa|final))?(?: (?:é|seria)|:)"
    r"(?: [ao](?= (?:opção|letra|alternativa|[a-z]\b)))?(?: (?:opção|letra|alternativa))?"
)
_FRENCH = (
    r"(?:[rR]éponse|option|choix)(?: (?:correcte?|exacte?|finale?|juste))?(?: (?:est|serait)| ?:)"
    r"(?: (?:la|le|l'))? ?(?:réponse|option|lettre|choix)?"
)
_GERMAN = (
    r"(?:antwort|lösung|option)(?: (?:ist|lautet|wäre)|:)(?: (?:die|also|daher))?"
    r"(?: (?:option|antwort|möglichkeit))?:?"
)
_RUSSIAN = r"(?:[оО]твет|[вВ]ариант)(?: (?:это|будет|-)| ?:| -)(?: (?:вариант|ответ|буква))?"
_HINDI = r"(?:उत्तर|विकल्प|जवाब)(?: (?:है|होगा))?:?(?: विकल्प)?"
_ARABIC = (
    r"(?:الإجابة|الاجابة|الجواب)(?: (?:الصحيحة|الصحيح|النهائية))?(?: (?:هي|هو)|:)"
    r"(?: (?:الخيار|الحرف))?"
)
_VIETNAMESE = (
    r"(?:[đĐ]áp án|[cC]âu trả lời|[lL]ựa chọn)(?: (?:đúng|chính xác|cuối cùng))?(?: là|:)"
    r"(?: (?:đáp án|lựa chọn))?"
)
_INDONESIAN = (
    r"(?:jawaban|pilihan|opsi)(?: yang)?(?: (?:benar|tepat|terbaik|paling tepat))?(?:nya)?(?: (?:adalah|ialah)|:)"
    r"(?: (?:opsi|pilihan|huruf))?"
)

OTHER_LANGUAGES = re.compile(
    "|".join(
        (
            *(_JAPANESE, _KOREAN, _SPANISH, _PORTUGUESE, _FRENCH, _GERMAN, _RUSSIAN, _HINDI, _ARABIC),
            *(_VIETNAMESE, _INDONESIAN),
        )
    )
)
"""A lead after which any letter is an answer."""


_REACH = 160
"""Characters before a declaration that can deny it."""

# A comma before "that" (German: dass) does not end what is said of the answer.
_CLAUSE_ENDS = re.compile(
    r"[.;:!?\n](?=[\s\"')]|$)|,(?! ?(?:that|dass|que|что|che)\b)| - |"
    r"\b(?:so|but|and|therefore|thus|hence|however|meaning|means?|which|leaving|leaves?|yet|instead)\b|"
    r"所以|因此|但是?"
)
# Two negations that affirm.
_AFFIRMS = re.compile(
    r"\b(?:no|without(?: a| any)?|beyond(?: a| any| all)?|little|not|n't|never) (?:reasonable )?"
    r"(?:doubt(?:ed)?|question|other (?:answer|option|choice)|hard to see|difficult to see|wrong to say)\b|"
    r"\b(?:cannot|can't|can not) (?:be denied|deny|help but)\b|\bnot only\b|\bno\.|\bwhether or not\b|"
    r"\bif (?:i'm|i am) not (?:mistaken|wrong)\b"
)
_DENIES = re.compile(
    "|".join(
        (
            r"\b(?:not|no|never|nor|neither|nothing|nobody|none|cannot|hardly|barely|scarcely|least|fails?)\b|n't\b",
            r"\b(?:impossible|unlikely|improbable|implausible|doubt\w*|absurd|nonsense|stretch|tempt\w*|mistake\w*)\b",
            r"\b(?:wrong|false|incorrect|untrue|error|lie|hard|difficult) (?:to|that|if|when|in)\b",
            r"\b(?:reject|refuse|avoid|disagree|deny|denies|refute|exclude|dismiss|hesitate|almost|nearly)\w*\b",
            # What others may say, and what somebody thought before.
            r"\b(?:one|you|many|some|people|someone|somebody|others?|they|who) "
            r"(?:might|may|could|would|says?|think|can (?:say|argue|claim))\b(?! see)",
            r"\b(?:might|may|could) (?:seem|appear|look)\b|\b(?:at first|initially|previously|originally|earlier)\b",
            r"\b(?:was|were) (?:going|about) to\b|\b(?:wanted|inclined) to\b|\bwould (?:mean|imply|make)\b",
            r"\b(?:claim|idea|notion|assumption|hypothesis|theory|belief|suggestion|argument)s? that\b",
            r"\b(?:saying|claiming|suggesting|arguing|assuming|believing|thinking)(?: that)?\b",
            # Whose answer, and which: of its adjectives these make it another than the one that is given.
            r"\b(?:wrong|incorrect|false|worst|bad|poor|trap|tricky|distractor|opposite|other|alternative|second|"
            r"runner-up|second-best|previous|initial|earlier|former|old|original|invalid|tempting|common)"
            r"(?: (?:wrong|likely|best|good|plausible))? $",
            r"\b(?:\w+'s|your|his|her|their) (?:own |first )?$",
            r"\b(?:could|might|may) $",
            r"\b(?:kein\w*|nicht|nie|niemals|falsch|unmöglich|pas|faux|impossible|jamais|não|nunca|falso|imposible|nadie)\b",
            r"\bno (?:es|creo|puede|pienso|digo)\b|(?:\bне\b|нельзя|невозможно|неверно)|\b(?:bukan|tidak|không|sai)\b",
            r"\b(?:falsche\w*|неправильн\w*|неверн\w*|ошибочн\w*|mauvaise?|fausse|"
            r"salah|equivocad[ao]|errad[ao]|incorrect[ao])\b",
            r"नहीं|गलत|ليس|لا |خاطئ|不|没有|并非|未必|错误|오$|틀린|間違",
        )
    )
)
_SOONER = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot|不|没有)\s?(?:(?:really |necessarily )?"
    r"(?:think|believe|say|agree|sure|certain|know|clear|mean|conclude|tell)\b[^.;,\n]{0,30})?$"
    r"|\b(?:if|whether|unless|doubt|suppose|assuming|otherwise|nor|neither|either|why)\b[^.;\n]{0,40}$"
    r"|如果[^.,\n]{0,20}$"
)
_BEHIND = re.compile(
    r"[\"')\]]{0,2}(?:"
    r"\s?(?:번?(?:이|가)? ?(?:아[니닙]|될 수 없|일 수 없)|"
    r"(?:では|じゃ)(?:ない|ありません)|(?:の?(?:はず|わけ)が)ない|नहीं|"
    r",?(?:这|那)?是?(?:不对|不正确|错))"
    r"|(?:,? (?:which|that|but (?:that|this|it)|yet (?:that|this|it|they)|though (?:that|this|it)))? ?"
    r"(?:(?:is|was|are|would be|must be|seems)(?: (?:clearly|obviously|definitely|simply|plainly|certainly|just))? "
    r"(?:not\b(?! only)|n't|wrong|incorrect|false|impossible|untrue|mistaken|a mistake|ruled out|excluded|"
    r"out\b)"
    r"|(?:isn't|wasn't|aren't|cannot|can't|couldn't|contradicts|ignores)\b)"
    r"|,? ?(?:contradicting|contrary to|only if|or (?:none|neither|nothing|something))\b)",
    re.IGNORECASE,
)
_ONLY_IF = re.compile(
    r"[\"')\]]{0,2}(?:,? ?(?:if|had|unless|were)\b|,? ?but (?:the|it|this|that|there)\b)", re.IGNORECASE
)
_ASKED = re.compile(r"[^.!?\n]{0,80}\?")
_ASKS_BACK = re.compile(r",? ?(?:right|correct|no|ok(?:ay)?|isn't it)\?", re.IGNORECASE)


def denied_before(text: str, position: int) -> bool:
    """Whether the clause before the declaration at a position denies it."""
    before = _AFFIRMS.sub("", text[max(0, position - _REACH) : position].lower())
    ends = [end.end() for end in _CLAUSE_ENDS.finditer(before)]
    return bool(_SOONER.search(before[-80:]) or _DENIES.search(before, ends[-1] if ends else 0))


def denied_behind(text: str, position: int, *, would: bool = False) -> bool:
    """Whether what follows a letter, which ends at a position, denies it: "is wrong", "would be C if ..."."""
    if _BEHIND.match(text, position) or (would and _ONLY_IF.match(text, position)):
        return True
    return bool(_ASKED.match(text, position)) and not _ASKS_BACK.match(text, position)

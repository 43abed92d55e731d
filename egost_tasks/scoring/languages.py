"""How the answer is declared in other languages than English and Chinese: "the (right) answer is (option)".

Latin letters alone are read: a Cyrillic or Arabic letter of an option is none, since its place in the alphabet is
another. Only ASCII is in lower case where these leads are sought.
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

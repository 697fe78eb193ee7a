"""Words of ten languages that tell what people wish for and ask, which language they write, and how they greet."""

from collections.abc import Mapping
from typing import Final

from backlog_worker.domain.specification.words import joined

WISHING: Final[Mapping[str, str]] = {
    "en": r"""
        would (?:like|love|be (?:nice|great|useful|helpful|good))|
        please (?:add|support|allow|provide|implement|consider|make)|it'd be|support for|feature(?: request)?|
        allow (?:us|users|me|to|filtering)?|add (?:support|an?|the|option)|want|wish|ability to|could we|
        can we have|let users?|let us|introduce|i'd (?:like|love)|proposal|enhancement|propose|suggest(?:ion)?|
        provide an?
    """,
    "de": r"""
        wäre (?:schön|toll|gut|super|hilfreich)|wünsch\w*|hätte gern\w*|bitte (?:ergänz|füg|bau)\w*|möchte\w*|
        vorschlag|unterstützung für|könnte man|erweiterung
    """,
    "fr": r"""
        il serait|ce serait|j'aimerais|souhait\w*|pouvoir|proposition|ajouter|serait (?:utile|bien|pratique)|
        prise en charge|demande de fonctionnalité
    """,
    "es": r"""
        sería (?:bueno|útil|genial|estupendo)|me gustaría|nos gustaría|quisiera|añadir|agregar|soporte para|
        propuesta|estaría bien|permitir
    """,
    "pt": r"""
        seria (?:bom|útil|ótimo|legal|interessante)|gostaria\w*|adicionar|suporte (?:a|para)|proposta|
        permitir|poder
    """,
    "it": r"""
        sarebbe (?:bello|utile|comodo|ottimo)|vorrei|vorremmo|mi piacerebbe|aggiungere|supporto per|proposta|
        permettere
    """,
    "ru": r"""
        было бы|хотелось бы|хочу|хотим|добавить|добавьте|
        предлага\w+|поддержк\w+|нужна возможность|возможность
    """,
    "zh": r"""
        希望|建议|能否|增加|支持|添加|新增|需求
    """,
    "ja": r"""
        追加して|対応して|欲しい|ほしい|要望|できるように|希望|提案|追加し
    """,
    "ko": r"""
        추가해|지원해|있으면 좋겠|좋겠습니다|원합니다|제안|기능 요청|바랍니다|지원 추가|추가
    """,
}
ASKING: Final[Mapping[str, str]] = {
    "en": r"""
        how (?:do|can|to|should|does|would)|what is the (?:right|best|recommended|correct)|
        is (?:it|there) (?:possible|a way|any way)|can (?:i|someone|anyone|you) (?:\w+)|question|does anyone|
        is this (?:supported|possible|intended)|which (?:one|of)|where (?:can|do|is)|what does|any (?:idea|way)|
        help with|why (?:does|is|do)
    """,
    "de": r"""
        wie (?:kann|mache|geht|lässt|stelle|konfiguriere)|frage|gibt es|ist es möglich|kann man|weiß jemand
    """,
    "fr": r"""
        comment (?:\w+)|question|est-il possible|y a-t-il|est-ce que|peut-on
    """,
    "es": r"""
        ¿|cómo (?:\w+)|pregunta|es posible|hay alguna
    """,
    "pt": r"""
        como (?:faço|posso|\w+r)|pergunta|dúvida|é possível|existe alguma
    """,
    "it": r"""
        come (?:posso|si|faccio)|domanda|è possibile|esiste un|c'è un modo
    """,
    "ru": r"""
        как (?:\w+)|вопрос|можно ли|есть ли|подскажите
    """,
    "zh": r"""
        如何|怎么|请问|是否可以|有没有办法|吗？|吗\?
    """,
    "ja": r"""
        どうすれば|どのように|方法はあります|でしょうか|質問|教えて|ますか
    """,
    "ko": r"""
        어떻게|방법|질문|가능한가요|있나요|인가요|할까요
    """,
}
# Words that tell the language of running text.
COMMON: Final[Mapping[str, str]] = {
    "en": (
        "the a an has be is and to of in it when i that for with this not on are was we you have should from does after"
    ),
    "de": (
        "der die das und ist nicht ich wenn ein eine mit auf wird zu im den beim es nach für "
        "sich wir aber wäre dem alle werden sollte"
    ),
    "fr": "le la les et est une un des je pas dans pour que sur il avec du ne quand au en nous",
    "es": "el la los las y es una un que no en de para con se al del por cuando me muy lo sería está esta al hay como",
    "pt": "o a os as e é uma um que não em de para com se ao do da por quando eu no na está seria dos das mais ser",
    "it": (
        "il lo la i gli le e è una un che non di per con si al del della delle quando mi nel ma "
        "più da vorrei sarebbe sono viene ho"
    ),
}
GREETINGS: Final = joined(r"""
    hi|hello|hey|dear|good (?:morning|day|evening)|thanks|thank you|cheers|regards|best regards|kind regards|
    best|many thanks|hallo|guten (?:tag|morgen)|liebes?|moin|servus|danke|vielen dank|viele grüße|
    mit freundlichen grüßen|grüße|bonjour|bonsoir|salut|merci|cordialement|hola|buenos días|buenas|gracias|
    saludos|olá|oi|bom dia|obrigad[oa]|abraços|ciao|salve|buongiorno|grazie|saluti|привет|
    здравствуйте|добрый день|спасибо|с уважением|你好|大家好|您好|谢谢|
    感谢|こんにちは|お世話になっております|お世話になります|よろしくお願いします|よろしくお願いいたします|
    ありがとうございます|안녕하세요|감사합니다|수고하십니다|수고하세요
""")

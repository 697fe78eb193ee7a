"""Words of running text in ten languages: what should be, and what goes wrong."""

from collections.abc import Mapping
from typing import Final

EXPECTING: Final[Mapping[str, str]] = {
    "en": r"""
        should(?:n't)?|expect(?:s|ed|ing)?|must|ought to|supposed to
    """,
    "de": r"""
        soll(?:te|ten|en)?|erwart\w*|müsste\w*|muss
    """,
    "fr": r"""
        devrai(?:t|ent)|attend(?:s|ais|u|ue|us)?|doit|doivent
    """,
    "es": r"""
        deber[íi]an?|esper(?:o|aba|amos|ado)|debe|deben
    """,
    "pt": r"""
        deveriam?|esper(?:o|ava|ado)|deve|devem
    """,
    "it": r"""
        dovrebbe(?:ro)?|mi aspett\w+|deve|devono|atteso
    """,
    "ru": r"""
        долж(?:ен|на|но|ны)|ожида\w+|следует
    """,
    "zh": r"""
        应该|应当|期望|预期|应为
    """,
    "ja": r"""
        べき|はず|期待|してほしい|される(?:べき|はず)
    """,
    "ko": r"""
        (?:해야|되어야|돼야|어야|아야) (?:합니다|한다|함|하는데|할)|해야|예상|기대
    """,
}
FAILING: Final[Mapping[str, str]] = {
    "en": r"""
        instead|but|actual(?:ly)?|fail(?:s|ed|ing)?|crash(?:es|ed|ing)?|hang(?:s|ing)?|hung|broken|breaks|broke|
        wrong(?:ly)?|never|error|errors|exception|
        (?:does|do|did|is|was|are|can|could|will|wo|has|have)(?:n't| not|not)|cannot|no longer|freez(?:es|ing)|
        froze|stuck|missing|stop(?:s|ped)|lost|loses|corrupt(?:s|ed)?|leak(?:s|ed)?|segfaults?|panics?|
        incorrect(?:ly)?|throws|blank|ignored|ignores|bug|duplicated?|garbled|regression|slow(?:er|ly)?|still|
        empty|unable|invalid|too (?:many|much|long|late|early)|(?:takes|needs) \w+ (?:hours|minutes|seconds)|
        timeouts?|times out|timed out|overlap(?:s|ping)?
    """,
    "de": r"""
        stattdessen|aber|fehler\w*|abst[uü]rz\w*|st[üu]rzt|hängt|kaputt|falsch\w*|nie|nicht|geht nicht|
        funktioniert nicht|bleibt|verschwind\w*|fehlt
    """,
    "fr": r"""
        mais|erreur\w*|plante\w*|bloqu\w*|échou\w*|jamais|ne \w+ (?:pas|plus)|n'\w+ (?:pas|plus)|au lieu|
        cassée?|faux|fausse|disparaît|vide
    """,
    "es": r"""
        pero|error\w*|falla\w*|fall[oóa]|bloque\w*|nunca|
        no (?:se|funciona|aparece|carga|puede|puedo|responde|abre|guarda)|en lugar|en vez|incorrect\w*|roto|
        desaparece
    """,
    "pt": r"""
        mas|erro\w*|falha\w*|trava\w*|nunca|não|em vez|ao invés|incorret\w*|quebrad\w*|desaparece
    """,
    "it": r"""
        ma|errore|errori|fallisce|si blocca|bloccat\w*|mai|non|invece|sbagliat\w*|rott\w*|sparisce|crash\w*
    """,
    "ru": r"""
        но|ошибк\w*|пада\w*|зависа\w*|никогда|не|вместо|сломал\w*|
        неверн\w*|неправильн\w*|пропада\w*|исчеза\w*|вылета\w*
    """,
    "zh": r"""
        但|却|报错|错误|失败|崩溃|卡死|卡住|无法|不能|没有反应|异常|不显示|丢失|闪退|白屏|乱码|不生效
    """,
    "ja": r"""
        しかし|エラー|失敗|クラッシュ|落ち|固ま|できない|できません|されない|されません|ません|おかしい|
        動かない|消え|文字化け|異常
    """,
    "ko": r"""
        하지만|그러나|오류|에러|실패|충돌|멈춥|멈춤|멈춰|않습니다|않는다|않음|안 됩니다|안됩니다|없습니다|잘못|
        깨집|깨져|사라집
    """,
}

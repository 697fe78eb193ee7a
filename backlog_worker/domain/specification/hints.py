"""What is only a hint of a template, what says nothing, and what people promise in boxes, in ten languages."""

from typing import Final

from backlog_worker.domain.specification.words import listed

# A line that begins or ends so is a hint of a template, if it has at most HINT_WORDS words.
HINT_WORDS: Final = 45
HINTS: Final = listed("""
    a clear and concise description|a clear description of|a concise description|a short description of|
    a brief description of|a description of what|a minimal example that|clear and concise|describe the bug|
    describe the issue|describe the problem|describe the expected|describe the actual|describe the current|
    describe the behavio|describe the solution|describe the request|describe the steps|
    describe any|describe alternatives|
    describe the feature|describe what happened|describe what you|
    describe your|describe here|describe how you|describe how to|please describe|please explain|please fill|
    please complete|please provide a clear|please provide a link|please provide a minimal|please provide a desc|
    please provide a short|please provide a detail|please provide a summary|please provide as|
    please provide any|please provide the version|please provide the output|please provide the follow|
    please provide the exact|please provide the full|please provide the steps|please provide the env|
    please include any|please include all|please include the|please include relevant|please include as|
    please list|please enter|please paste|please attach|please run|please add any|please add screenshot|
    please add a desc|please copy|please tell|please be as|please search|please check if|please check that|
    please check the|please make sure|please read|please note that this|please use this|please use english|
    tell us|explain what you|explain what happen|explain how you|explain why this|explain why you|if applicable|
    if relevant|add any other|add screenshots|steps to reproduce the behavio|a step-by-step|
    step-by-step instructions|insert your|insert text|insert here|insert desc|insert version|enter your answer|
    enter your version|enter your desc|summarize the|if you can, |write here|write your|write a clear|
    write a short|write a desc|your answer|your text|your description|your version|paste here|paste your|
    paste the output|paste any|copy and paste|what did you expect to happen|what actually happened|
    what happened instead|what you expected to happen|what you want to happen|delete this section|
    delete this line|delete this text|delete this template|remove this section|remove this line|
    remove this text|replace this text|replace this line|replace this with|thank you for taking|
    thanks for taking|thanks for stopping|thank you for filing|thank you for opening|thanks for opening|
    thanks for filing|thank you for contributing|thanks for contributing|this template|this form|
    this issue tracker|ex. i'm always|i'm always frustrated when [|list the steps|give as much|
    include any relevant|include any other|include any additional|provide a clear|provide a link to|
    provide a minimal|provide a description|provide a summary|provide steps|provide any|provide as|
    provide the output|provide the full|provide the version|first step|second step|third step|step one|step two|
    bitte beschreib|bitte gib an|bitte gib hier|bitte fülle|bitte füge hier|bitte füge screen|
    beschreibe hier|beschreiben sie|beschreibe das problem|beschreibe den fehler|beschreibe, |eine klare und|
    hier beschreiben|kurze beschreibung|décrivez |décrire ici|veuillez décrire|veuillez fournir|
    veuillez indiquer|veuillez préciser|veuillez remplir|veuillez joindre|merci de décrire|merci de préciser|
    merci de fournir|merci de remplir|une description claire|ajoutez ici|describe el|describa |
    por favor describ|por favor, describ|una descripción clara|escribe aquí|añade aquí|descreva |
    por favor descreva|por favor, descreva|uma descrição clara|escreva aqui|descrivi |si prega di|
    una descrizione chiara|scrivi qui|inserisci qui|опишите |пожалуйста, опишите|
    пожалуйста, укажите|чёткое и краткое|четкое и краткое|
    укажите здесь|请描述|请在此|请填写|请提供|请详细|请简要|在此处|清晰简洁|ここに|簡潔に|明確かつ|
    バグの内容を|여기에|명확하고 간결|ex:|example:|e.g.|eg:
""")
HINT_ENDS: Final = listed("""
    記入してください|記述してください|記載してください|書いてください|貼り付けてください|설명해 주세요|
    설명해주세요|작성해 주세요|작성해주세요|입력해 주세요|적어 주세요|적어주세요
""")
# A line that is nothing but one of these says nothing.
EMPTY: Final = frozenset(
    listed("""
    +1|-|--|---|.|...|?|??|and so on|any news|any update|as title|as titled|aucun|aucune|bump|description|empty|
    entfällt|etc|idk|keine|keine angabe|keine antwort|me too|n/a|na|nenhum|nenhuma|nessuna|nessuna risposta|
    nessuno|nicht zutreffend|nil|ninguna|ninguno|no|no aplica|no response|non applicabile|none|not applicable|
    not relevant|nothing|null|não se aplica|néant|same|same as title|same here|sans objet|see above|see error|
    see title|sem resposta|siehe titel|sin respuesta|summary|tbd|todo|unbekannt|unknown|vedi titolo|ver título|
    version|version x.y.z|voir titre|vx.y.z|x|x.y.z|xx|xxx|your version here|не применимо|нет|
    нет ответа|см заголовок|см. заголовок|…|なし|タイトルの通り|不适用|同上|
    如题|无|暂无|没有|無し|特になし|特に無し|該当なし|없음|제목 참조|제목과 같음|해당 없음
""")
)
# A box that promises something about the reporter, not about the work.
PROMISES: Final = listed("""
    i have |i've |i agree|i confirm|i am |i'm |i did |i read|i searched|i understand|i would like to |i will |
    i checked|i use |i was |i accept|i acknowledge|i tried|i verified|i want to contribute|i can |i could |
    this is not|this issue |this report|this bug |there is no|there are no|no similar|searched |read the|
    checked |verified that|my issue|the issue has not|the provided|the bug |the title|the problem|
    not a duplicate|not a support|yes, |you have |you've |make sure|followed the|follow this|agree to|
    by submitting|by checking|willing to|ich habe|ich bin |ich stimme|ich bestätige|ich verstehe|ich akzeptiere|
    ich will|dies ist kein|es gibt kein|j'ai |je confirme|j'accepte|je suis |je comprends|je m'engage|
    il n'existe|ce n'est pas|he leído|he buscado|he comprobado|he verificado|he revisado|acepto|confirmo|
    estoy de acuerdo|no existe|no hay |entiendo|eu li|li |eu pesquisei|pesquisei|procurei|verifiquei|concordo|
    aceito|eu concordo|já |não há|não existe|entendo|ho letto|ho cercato|ho verificato|ho controllato|accetto|
    sono d'accordo|non esiste|non ci sono|capisco|я прочитал|я прочита|я искал|
    я проверил|я проверила|я согласен|я согласна|я подтверждаю|
    я понимаю|я использую|мной|我已|我确认|我同意|我搜索|我查|已阅读|已搜索|已确认|
    没有重复|不存在|私は|確認しました|検索しました|読みました|同意します|既存の|重複|저는|확인했습니다|
    검색했습니다|읽었습니다|동의합니다|중복|기존 이슈
""")
PROMISE_ENDS: Final = listed("""
    確認しました|検索しました|読みました|同意します|했습니다|동의합니다|읽었습니다|확인했습니다
""")

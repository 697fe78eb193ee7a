"""What headings are about, in ten languages: starts of words, or whole ones before a blank; CJK matches anywhere."""

from collections.abc import Mapping
from typing import Final

# In this order: the first section with a word in the heading is the one.
SECTIONS: Final[Mapping[str, str]] = {
    "checklist": """
        checklist|check list|prerequisite|before submitting|before you|before opening|before posting|
        code of conduct|preflight|pre-flight|terms of|verification|existing issue|already an issue|contribution|
        guidelines|readiness|acknowledg|initial checks|pull request|willing to|i have searched|are you willing|
        checkliste|voraussetzung|vor dem absenden|vor dem erstellen|verhaltenskodex|liste de contrôle|
        liste de vérification|prérequis|avant de|code de conduite|lista de verificación|
        lista de comprobación|requisitos previos|antes de|código de conducta|lista de verificação|
        pré-requisitos|código de conduta|prerequisiti|prima di|codice di condotta|elenco di controllo|
        lista di controllo|контрольный список|чек-лист|чеклист|
        предварительн|перед отправкой|перед созданием|检查清单|提交前|
        前置条件|先决条件|行为准则|自查|チェックリスト|事前確認|提出前|投稿前|行動規範|체크리스트|사전 확인|
        제출 전|행동 강령
    """,
    "frequency": """
        which stage|how often|last working|frequency|is there a required condition|does this issue occur|
        is this a regression|reproducible in|how consistent
    """,
    "kind": """
        issue type|type of issue|type of change|type of report|what kind of|kind of issue|bug or feature|
        art des tickets|art der meldung|type de ticket|type de demande|tipo de incidencia|tipo de problema|
        tipo di segnalazione|tipo de issue|тип задачи|тип обращения|问题类型|反馈类型|種別|
        種類|이슈 유형|유형
    """,
    "acceptance": """
        acceptance|definition of done|done when|success criteria|exit criteria|requirements |akzeptanz|abnahme|
        fertig wenn|erledigt wenn|critères d'acceptation|critère d'acceptation|terminé quand|
        criterios de aceptación|critérios de aceitação|critérios de aceite|criteri di accettazione|
        критерии при|критерий при|готово когда|验收|受け入れ|受入|完了条件|
        완료 조건|인수 조건|수락 기준|승인 기준
    """,
    "steps": """
        reproduc|repro |steps|step-by-step|step by step|what did you do|how to trigger|minimal example|mre |
        mcve |code sample|sample code|code example|example code|test case|i tried this code|code snippet|code |
        what led up|schritte|reproduzier|reproduktion|nachstellen|étapes|etapes|reproduire|pasos|reproducir|
        passos|reproduzir|reprodução|passaggi|riprodurre|riproduzione|passi |шаги|воспроизв|
        как повторить|复现|重现|步骤|再現|手順|재현|단계
    """,
    "expected": """
        expect|what should happen|should happen|desired behav|desired result|correct behav|outcome you wanted|
        erwart|sollverhalten|soll-|attendu|attendue|esperad|esperab|atteso|attesa|aspett|ожида|должно|期望|
        预期|期待|기대|예상 동작|예상 결과|예상되는
    """,
    "alternatives": """
        alternative|workaround|other solutions|alternativ|umgehung|contournement|альтернатив|
        обходн|替代|代替|回避|대안|우회
    """,
    "component": """
        component|area |areas |area(s)|module|modules|which package|package |package(s)|subsystem|affected area|
        affected resource|
        affected component|affected module|affected package|integration causing|scope |komponente|betroffene|
        betroffener|bereich|composant|componente|área afetada|компонент|модуль|组件|模块|
        コンポーネント|モジュール|影響範囲|컴포넌트|모듈|구성 요소
    """,
    "environment": """
        environment|version|user agent|system info|platform|browser|operating system|device|desktop|smartphone|
        setup|type of installation|os |specs|meta |doctor|runtime|system |your system|hardware|
        cloud provider|install tools|umgebung|betriebssystem|gerät|environnement|système|navigateur|entorno|
        sistema operativo|navegador|versión|ambiente|sistema operacional|versão|versões|versione|versioni|
        окружени|среда|верси|операционная|браузер|环境|版本|操作系统|
        浏览器|系统信息|環境|バージョン|ブラウザ|환경|버전|운영체제|브라우저
    """,
    "logs": """
        log |logs|log output|stack trace|stacktrace|traceback|backtrace|console|error message|error output|
        error log|exception|crash report|relevant output|output|anything in the logs|diagnostic|protokoll|
        fehlermeldung|stacktrace|journaux|trace d|message d'erreur|registros|mensaje de error|traza|
        mensagem de erro|messaggio di errore|лог |логи|журнал|стек|трассировк|
        сообщение об ошибке|日志|报错|错误信息|堆栈|ログ|エラーメッセージ|スタックトレース|
        로그|오류 메시지|에러 메시지|스택
    """,
    "actual": """
        qué pasó|qué sucedi|o que acontece|s'est-il passé|se passe|è successo|произошло|passiert|
        发生了什么|何が起|무슨 일|
        actual|current behav|current bug|current result|what happen|what is happening|observed|what did you see|
        what do you see|see instead|instead|what went wrong|what you got|tatsächlich|istverhalten|ist-|
        aktuelles verhalten|was passiert|observé|constaté|obtenu|résultat réel|comportement réel|actuel|
        obtenido|observado|qué ocurre|obtido|atual |comportamento atual|effettivo|effettivi|ottenuto|attuale|
        osservato|cosa succede|фактическ|текущ|наблюда|что происходит|
        реальн|实际|目前|当前|実際|現在の|現状|실제|현재
    """,
    "motivation": """
        motivation|use case|use-case|why|rationale|background|benefit|user story|goal|need |warum|hintergrund|
        anwendungsfall|nutzen|pourquoi|cas d'usage|cas d'utilisation|motivación|motivo|por qué|caso de uso|
        casos de uso|motivação|justificativa|por que|motivazione|perché|caso d'uso|мотивац|зачем|
        сценарий|动机|背景|使用场景|動機|理由|ユースケース|동기|배경|이유|필요성
    """,
    "context": """
        search terms|
        possible fix|possible solution|additional|context|screenshot|anything else|other information|further|
        more info|notes|attachment|impact|severity|related|references|video|recording|last working|priority|
        playground|link to|search|prior art|zusätzlich|weitere|anmerkung|bildschirm|supplémentaire|capture|
        adicional|captura|informações adicionais|informazioni aggiuntive|contesto|schermat|
        дополнительн|скриншот|контекст|补充|截图|其他|备注|スクリーンショット|
        その他|補足|追加情報|추가 정보|추가 맥락|스크린샷|기타|참고
    """,
    "proposal": """
        proposal|proposed|solution|feature|suggest|what would you like|what do you want|i would like|request|
        idea|implementation|enhancement|improvement|what needs to|vorschlag|lösung|wunsch|gewünscht|funktion|
        proposition|souhait|amélioration|fonctionnalité|propuesta|solución|sugerencia|mejora|proposta|
        solução|sugestão|melhoria|soluzione|suggerimento|funzionalità|предлож|решени|
        улучшен|建议|方案|功能|需求|提案|解決策|要望|機能|제안|해결|원하는|기능
    """,
    "question": """
        question|ask |frage|pregunta|pergunta|domanda|вопрос|提问|疑问|質問|질문
    """,
    "summary": """
        summary|description|describe the bug|describe the issue|describe the problem|overview|what is the issue|
        what's the issue|what is wrong|what's wrong|bug |problem|the issue|issue |tl;dr|details|synopsis|task |
        what is missing|documentation |zusammenfassung|beschreib|fehlerbeschreibung|kurzfassung|worum geht|
        résumé|resumen|descripción|describe el|descrição|resumo|riepilogo|riassunto|descrizione|descrivi|
        sommario|décrivez|описани|опишите|краткое|суть|概述|摘要|描述|问题|概要|説明|
        内容|요약|설명|개요|문제|버그
    """,
}

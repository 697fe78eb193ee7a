"""Digests: the pressure on each service, and the drafts that are created from it each week or day.

A digest is kept in the database and written as a file, `reports/ENV/platform/YYYY-WW.json` or
`reports/ENV/risk/YYYY-MM-DD.json`. Other programs may write such files too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from backlog_worker.domain.errors import Finding, InvalidFileError
from backlog_worker.domain.governing import PART
from backlog_worker.domain.markdown import escaped
from backlog_worker.domain.masking import cut
from backlog_worker.domain.moment import in_utc
from backlog_worker.domain.policy import Policy

MISSING = {
    "platform": "No platform digest found. Run architecture_pressure_tool.digest first.",
    "risk": "No risk digest found. Run risk_history_tool.digest first.",
}
Words = Annotated[str, Field(max_length=300)]


class FindingFile(BaseModel):
    """One problem of a service."""

    model_config = ConfigDict(extra="forbid")

    category: PART
    title: Words
    why: Annotated[str, Field(max_length=4000)] = ""
    evidence: dict[str, Any] = {}


class ServiceFile(BaseModel):
    """One service: its score (higher is worse), the numbers behind it, and its findings."""

    model_config = ConfigDict(extra="forbid")

    service: PART
    score: float = Field(default=0.0, allow_inf_nan=False)
    signals: dict[str, float] = {}
    findings: list[FindingFile] = Field(default=[], max_length=100)


class DigestFile(BaseModel):
    """`reports/ENV/platform/YYYY-WW.json` or `reports/ENV/risk/YYYY-MM-DD.json`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["backlog-worker/digest@1"] = Field(default="backlog-worker/digest@1", alias="schema")
    kind: Literal["platform", "risk"]
    env: Words
    period: str = Field(pattern=r"^\d{4}-(\d{2}|\d{2}-\d{2})$")
    generated_at: Annotated[datetime, AfterValidator(in_utc)]
    services: list[ServiceFile] = Field(default=[], max_length=5000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The drafts that a digest asks for, best first, and the reasons for those it skipped."""

    drafts: tuple[dict[str, Any], ...]
    passed: tuple[str, ...]


def checked(value: object, *, file: str) -> DigestFile:
    """Validate a digest; raises InvalidFileError with every error."""
    try:
        return DigestFile.model_validate(value)
    except ValidationError as error:
        findings = [
            Finding(
                code="BW403",
                text=f"{'.'.join(str(part) for part in each['loc']) or 'the digest'}: {each['msg']}",
                file=file,
                hint="compare with `backlog-worker schema digest`",
            )
            for each in error.errors(include_url=False, include_context=False)
        ]
        raise InvalidFileError(findings) from None


def week_of(moment: datetime) -> str:
    """Return the ISO week of a moment, such as ``2026-47``."""
    year, week, _ = moment.isocalendar()
    return f"{year}-{week:02d}"


def wanted(digest: DigestFile, policy: Policy, now: datetime) -> Wanted:
    """Return the drafts of a digest, one for each service and category, the service with the highest score first.

    The dedupe key contains the period, so an unresolved finding is filed again in the next period. This is intended.
    """
    drafts: list[dict[str, Any]] = []
    passed: list[str] = []
    for service in sorted(digest.services, key=lambda each: (-each.score, each.service)):
        grouped: dict[str, list[FindingFile]] = {}
        for finding in service.findings:
            grouped.setdefault(finding.category, []).append(finding)
        for category, findings in grouped.items():
            if category not in policy.categories:
                passed.append(f"{service.service}: the policy has no category {category}")
                continue
            drafts.append(_draft(digest, policy, service, findings, now))
    return Wanted(drafts=tuple(drafts), passed=tuple(passed))


def newer(stored: DigestFile | None, file: DigestFile | None) -> DigestFile | None:
    """Return the newer of two digests: by period, then by creation time; the file wins a tie.

    So a digest written by another program is used, and an outdated file is not.
    """

    def _age(each: DigestFile) -> tuple[str, datetime]:
        at = each.generated_at
        return each.period, at.replace(tzinfo=UTC) if at.tzinfo is None else at

    return max([each for each in (file, stored) if each is not None], key=_age, default=None)


def _draft(
    digest: DigestFile, policy: Policy, service: ServiceFile, findings: Sequence[FindingFile], now: datetime
) -> dict[str, Any]:
    name = findings[0].category
    category = policy.categories[name]
    title = findings[0].title if len(findings) == 1 else f"{len(findings)} findings"
    lines = [f"- {each.title}" + (f": {each.why}" if each.why else "") for each in findings]
    return {
        "title": cut(f"[{service.service}] {name}: {title}", 200),
        "dedupe_key": f"{policy.dedupe.key_prefix}:{digest.env}:{digest.period}:{service.service}:{name}",
        "source": f"digest:{digest.kind}",
        "external_ref": digest.period,
        "pipeline": policy.generation.pipeline,
        "service": service.service,
        "category": name,
        "owner": policy.ownership.owner_of(service.service),
        "priority": category.priority,
        "labels": list(policy.generation.labels),
        "signals": {"pressure": service.score},
        "eligible_by": f"policy {policy.stamp}, generation.labels" if policy.generation.labels else "",
        "eligible_at": now.isoformat() if policy.generation.labels else None,
        "created_at": now.isoformat(),
        "due_date": (now + timedelta(days=category.due_days)).isoformat(),
        "input": {
            "title": f"{service.service}: {name}",
            "body": "\n".join(lines),
            "digest": {"kind": digest.kind, "period": digest.period},
            "score": service.score,
            "findings": [each.model_dump(mode="json") for each in findings],
        },
    }


def pressure(rows: Sequence[Mapping[str, Any]], now: datetime) -> list[ServiceFile]:
    """Score services by their entries in the backlog.

    score = 3 x overdue + 3 x escalated + 2 x retrying + open / 5 + 10 x share of failed runs, rounded to two places.
    """
    found = []
    for row in rows:
        runs, failed = int(row["runs"] or 0), int(row["failed"] or 0)
        rate = failed / runs if runs else 0.0
        age = (now - row["oldest"]).total_seconds() / 86_400 if row["oldest"] else 0.0
        signals = {name: float(row[name] or 0) for name in ("open", "overdue", "escalated", "retrying")}
        signals |= {"runs": float(runs), "failed": float(failed), "oldest_days": round(age, 1)}
        score = 3 * signals["overdue"] + 3 * signals["escalated"] + 2 * signals["retrying"] + signals["open"] / 5
        found.append(
            ServiceFile(
                service=str(row["service"]),
                score=round(score + 10 * rate, 2),
                signals=signals,
                findings=_pressing(signals, rate),
            )
        )
    return sorted(found, key=lambda each: (-each.score, each.service))


RUNS_MIN, FAILED_MIN = 3, 0.3
OPEN_MAX, DAYS_MAX = 10, 60
RISK_MIN, RISEN = 5.0, 1.2


def _pressing(signals: Mapping[str, float], rate: float) -> list[FindingFile]:
    found = []
    if signals["overdue"]:
        title = f"{signals['overdue']:.0f} entries are past their due date"
        found.append(FindingFile(category="reliability", title=title, evidence={"overdue": signals["overdue"]}))
    if signals["runs"] >= RUNS_MIN and rate >= FAILED_MIN:
        title = f"{rate:.0%} of {signals['runs']:.0f} runs failed"
        found.append(FindingFile(category="reliability", title=title, evidence={"failure_rate": round(rate, 3)}))
    if signals["escalated"]:
        title = f"{signals['escalated']:.0f} entries wait for a person's decision"
        found.append(FindingFile(category="risk", title=title, evidence={"escalated": signals["escalated"]}))
    if signals["open"] >= OPEN_MAX or signals["oldest_days"] >= DAYS_MAX:
        title = f"{signals['open']:.0f} open entries, the oldest {signals['oldest_days']:.0f} days old"
        found.append(FindingFile(category="debt", title=title, evidence={"open": signals["open"]}))
    return found


def risen(snapshots: Sequence[Mapping[str, Any]]) -> list[ServiceFile]:
    """Score services by how their scores changed over *snapshots*, oldest first; each maps services to scores."""
    first = snapshots[0]["data"].get("scores", {}) if snapshots else {}
    last = snapshots[-1]["data"].get("scores", {}) if snapshots else {}
    found = []
    for service, score in last.items():
        before = float(first.get(service, 0.0))
        peak = max(float(each["data"].get("scores", {}).get(service, 0.0)) for each in snapshots)
        rose = score >= RISK_MIN and score >= before * RISEN and score > before
        title = f"risk rose from {before:g} to {score:g} in a day"
        evidence = {"before": before, "now": score, "peak": peak}
        found.append(
            ServiceFile(
                service=service,
                score=float(score),
                signals={"before": before, "peak": peak},
                findings=[FindingFile(category="risk", title=title, evidence=evidence)] if rose else [],
            )
        )
    return sorted(found, key=lambda each: (-each.score, each.service))


def markdown(digest: DigestFile) -> str:
    """Render a digest as Markdown."""
    lines = [f"# {escaped(digest.kind).capitalize()} digest {escaped(digest.period)}, {escaped(digest.env)}", ""]
    lines += ["| service | score | findings |", "|---|---|---|"]
    lines += [
        f"| {escaped(each.service)} | {each.score:g} | {'; '.join(escaped(f.title) for f in each.findings) or '-'} |"
        for each in digest.services
    ]
    return "\n".join([*lines, "", f"Written at {digest.generated_at.isoformat(timespec='seconds')}.", ""])

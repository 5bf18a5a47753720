"""What is in place at a study and what to do about what is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from consumer import fetching
from consumer.study import Study
from protocol.identity import certificate_expires
from shared import folder
from shared.errors import Fair4FreeError, Unreachable
from shared.finding import Finding


def diagnose(study: Study) -> list[Finding]:
    """Every check, in the order a person would fix them."""
    now = datetime.now(UTC)

    def invitation() -> str:
        found = study.invitation()
        return f"{found.node} at {found.address}, fingerprint {found.fingerprint[:16]}…"

    def key() -> str:
        if study.key.stat().st_mode & 0o077:
            raise Unreachable("others can read it", field=str(study.key), remedy="run chmod 600 on it")
        return "readable by you only"

    def certificate() -> str:
        data = folder.read(study.certificate, "run `fair4free enrol` until the owner has approved")
        expires = certificate_expires(data)
        if expires <= now:
            raise Unreachable("it has expired", field="certificate", remedy="run `fair4free enrol` to renew it")
        return f"expires {expires:%Y-%m-%d}"

    def release() -> str:
        manifest = fetching.verify(study, int(now.timestamp())).release.manifest
        return f"version {manifest.version}, verified"

    def student() -> str:
        return f"{len(folder.read(study.student, 'run `fair4free distill`')):,} bytes"

    checks = (invitation, key, certificate, release, student)
    return [_check(check.__name__, check) for check in checks]


def _check(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except Fair4FreeError as error:
        return Finding(name, False, str(error))
    except OSError:
        return Finding(name, False, "not there. Remedy: run `fair4free enrol`")

"""`arena board --submit FOLDER`: a submission, checked by playing a sample of it again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from arena.cli.console import CommandError, Remarks, out
from arena.progress import hearing
from arena.report.submission_terminal import print_submission
from arena.running.submissions import SAMPLE, SubmissionReport, check_submission
from arena.scenario.seeds import PUBLIC, read_secret

REFUSED, NOT_CHECKED = 1, 3
"""The exit statuses of a submission that fails, and of one that could not be checked here."""


def submit_command(
    folder: Path,
    *,
    sample: int = SAMPLE,
    seed: int | None = None,
    data: Sequence[Path] = (),
    device: str | None = None,
    trusted: Sequence[str] = (),
    secret: Path | None = None,
) -> tuple[int, SubmissionReport]:
    """Check a submission and print what came of it; the exit status, and the report for a page.

    Raises:
        UserError: if there is no submission there, or it names code that may not be run here.
    """
    if sample < 1:
        raise CommandError(f"--sample: found {sample}; at least one shard must be played again")
    if trusted:
        sys.path.append(str(folder.absolute()))  # what is trusted lies in the submission
    seeds = PUBLIC if secret is None else read_secret(secret)
    with hearing(Remarks()):
        report = check_submission(
            folder, sample=sample, seed=seed, data_dirs=data, device=device, trusted=trusted, seeds=seeds
        )
    print_submission(out, report)
    status = {"failed": REFUSED, "not checked": NOT_CHECKED}.get(report.status, 0)
    return status, report

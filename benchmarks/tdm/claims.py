"""The claims of the paper, each decided by the figures that are there.

A comparison of two methods is the mean over tasks of their paired differences (same seed:
same start states, windows and few-shot episodes), with an interval over seeds. It holds
where the whole interval is on the claimed side of zero, does not hold where the whole
interval is on the other side, and is undecided where zero lies within, or where there is a
single seed. A claim holds where all its comparisons hold, and does not hold where one of
them does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.scores.bootstrap import Interval
from benchmarks.tdm import summary
from benchmarks.tdm.summary import Measure
from benchmarks.tdm.work import Record

HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided", "not run"


class Comparison(NamedTuple):
    """Two methods by one measure.

    Attributes:
        measure: What is compared, in words.
        better: Who should be ahead.
        worse: Who should be behind.
        lead: By how much ``better`` is ahead: positive where the claim is right.
        tasks: Tasks that both have.
        seeds: Seeds of each task, at least.
    """

    measure: str
    better: str
    worse: str
    lead: Interval | None
    tasks: int
    seeds: int

    @property
    def verdict(self) -> str:
        """One of the four words."""
        if self.lead is None:
            return MISSING
        if self.lead.low is None or self.lead.low <= 0 <= self.lead.high:
            return UNDECIDED
        return HOLDS if self.lead.low > 0 else FAILS


class Claim(NamedTuple):
    """One claim.

    Attributes:
        experiment: What decides it.
        words: What is claimed.
        comparisons: Of what it consists.
    """

    experiment: str
    words: str
    comparisons: list[Comparison]

    @property
    def verdict(self) -> str:
        """One of the four words, over all comparisons."""
        verdicts = [one.verdict for one in self.comparisons]
        for word in (MISSING, FAILS, UNDECIDED):
            if word in verdicts:
                return word
        return HOLDS


ERROR, REWARD, SCORE = "error of observations", "error of rewards", "return"
_MEASURES: dict[str, tuple[Measure, int]] = {
    ERROR: (summary.observation_error, -1),
    REWARD: (summary.reward_error, -1),
    SCORE: (summary.score, 1),
}
"""How each is measured, and which sign is good."""


def decide(records: Sequence[Record]) -> list[Claim]:
    """Returns the four claims with what the records say about them."""

    def compare(
        experiment: str, measure: str, better: str, worse: str, shots: int | None = None
    ) -> Comparison:
        function, sign = _MEASURES[measure]
        left, right = (
            summary.by_seed(records, experiment, name, function, shots) for name in (better, worse)
        )
        leads = [[sign * x for x in some] for some in summary.paired(left, right).values()]
        lead = summary.interval(leads) if leads else None
        seeds = min(map(len, leads), default=0)
        words = measure if shots is None else f"{measure}, {_episodes(shots)}"
        return Comparison(words, better, worse, lead, len(leads), seeds)

    shots = sorted({one["shots"] for one in records if one["experiment"] == "few-shot"})
    return [
        Claim(
            "specialist",
            "A TDM of one environment predicts and plans better than other learned models.",
            [
                compare("specialist", measure, "tdm", other)
                for other in ("ensemble", "rssm")
                for measure in (ERROR, REWARD, SCORE)
            ],
        ),
        Claim(
            "few-shot",
            "A generalist TDM, fine-tuned on a few episodes of the target, beats one trained on "
            "the same episodes from scratch.",
            [
                compare("few-shot", measure, "fine-tuned", "scratch", n)
                for n in shots or [None]
                for measure in (ERROR, SCORE)
            ],
        ),
        Claim(
            "zero-shot",
            "A generalist TDM plans in an environment that it never saw: better than chance.",
            [compare("zero-shot", SCORE, "generalist", "random")],
        ),
        Claim(
            "zero-shot",
            "Planning in generalised dynamics beats generalised behaviour, cloned from the same "
            "data or from its better half.",
            [
                compare("zero-shot", SCORE, "generalist", policy)
                for policy in ("policy", "policy-best")
            ],
        ),
    ]


def _episodes(shots: int) -> str:
    return f"{shots} episode{'' if shots == 1 else 's'}"

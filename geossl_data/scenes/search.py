"""Catalog → Scenes: what a STAC API or stac-geoparquet holds for an area and a period, complete or not at all."""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from geossl_data.errors import EmptyResultError
from geossl_data.memory import gc_paused
from geossl_data.progress import Progress, Task, silent
from geossl_data.records import Scene, Skipped
from geossl_data.scenes.items import Item
from geossl_data.scenes.journal import Journal
from geossl_data.scenes.plan import Plan, Question, plan_search
from geossl_data.scenes.product_metadata import consult
from geossl_data.scenes.providers import Provider, provider_for
from geossl_data.scenes.query import Query, S1Product, S2Level, midnight
from geossl_data.scenes.selection import Findings, Selector, UnknownBaseline, distinct
from geossl_data.scenes.snapshots import read_snapshot, snapshot_base

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl_data.scenes.api import StacApi

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came back with."""

    provider: Provider
    base: str
    """Absolute folder or URL of the catalog; local hrefs lie below it."""
    unknown_baseline: UnknownBaseline
    """What was done with Sentinel-2 items that state no baseline."""
    query: str
    """What was asked for, in words."""
    items: list[Mapping[str, Any]]
    """The scenes' items, in the same order, reduced to what is known of them: no foreign links, no other assets."""
    scenes: list[Scene]
    """In order of time, then id; both sensors and label maps."""
    skipped: list[Skipped]


def search(
    catalog: str,
    *,
    area: "BaseGeometry | None",
    start: date | None,
    end: date | None,
    max_cloud: float,
    unknown_baseline: UnknownBaseline,
    margin: timedelta = timedelta(0),
    s2: S2Level = "L2A",
    s1: S1Product = "RTC",
    journal_folder: Path | None = None,
    sign: Callable[[str], str] = str,
    progress: Progress = silent,
) -> Found:
    """The scenes of a catalog that meet `area` and were acquired from `start` to `end`, both days included, UTC.

    catalog: a name in PROVIDERS, a STAC API URL, or stac-geoparquet. An API needs all of area, start and end.
    max_cloud: percent of a whole Sentinel-2 scene; scenes that state none pass. Label maps pass whatever their dates.
    margin: Sentinel-1 is wanted that much earlier and later.
    unknown_baseline: Sentinel-2 items whose offset neither they nor their product's metadata state are skipped, or
    kept with `boa_offset` None.
    journal_folder: where answers are kept until the search is complete, so that an interrupted one goes on.
    sign: makes the unsigned href of a metadata file one that opens.
    Of several versions of one Sentinel-2 acquisition the newest baseline is kept; of tiles that overlap, one where one
    is enough. Raises TruncatedSearch when the catalog does not give everything, another CatalogError when it is unknown
    or unreachable, EmptyResultError when neither sensor has a scene.
    """
    provider = provider_for(catalog)
    query = Query(
        area=area,
        start=midnight(start),
        end=midnight(end, days=1),
        margin=margin,
        max_cloud=max_cloud,
        s2=s2,
        s1=s1,
    )
    location = provider.snapshot or catalog
    base = snapshot_base(location) if provider.url is None else f"{provider.url}/"
    selector = Selector(
        provider=provider,
        base=base,
        query=query,
        unknown_baseline=unknown_baseline,
        consult=partial(consult, sign=sign),
    )
    if provider.url is None:
        with gc_paused():
            findings = list(_from_snapshot(location, selector, progress))
    else:
        findings = _from_api(plan_search(provider, query), selector, journal_folder, progress)
    with progress("leaving out duplicates") as task:
        chosen, skipped = distinct(findings, query)
        task.advance(note=f"{len(chosen):,} scenes")
    n_items = sum(part.n_items for part in findings)
    outside = sum((Counter(part.outside) for part in findings), Counter())
    if not any(scene.sensor != "label" for scene, _ in chosen):
        raise EmptyResultError(_nothing(n_items, provider, query, outside, skipped))
    _LOG.info("%d items, %d scenes, %d given up, not asked for: %s", n_items, len(chosen), len(skipped), dict(outside))
    return Found(
        provider=provider,
        base=base,
        unknown_baseline=unknown_baseline,
        query=str(query),
        items=[item for _, item in chosen],
        scenes=[scene for scene, _ in chosen],
        skipped=skipped,
    )


def _from_snapshot(location: str, selector: Selector, progress: Progress) -> Iterator[Findings]:
    outside: Counter[str] = Counter()
    for items in read_snapshot(location, selector.provider, selector.query, outside, progress=progress):
        found = selector.select(items)
        counts, n_items = outside + Counter(found.outside), found.n_items + outside.total()
        outside.clear()
        yield replace(found, outside=counts, n_items=n_items)


def _from_api(plan: Plan, selector: Selector, journal_folder: Path | None, progress: Progress) -> list[Findings]:
    """The findings of every question of a plan, in its order; answers that a journal holds are not asked for again."""
    from geossl_data.scenes.api import StacApi

    provider, questions = plan.provider, plan.questions
    journal = None if journal_folder is None else Journal(journal_folder, _journal_key(selector))
    findings: dict[str, Findings] = {}
    for question in questions if journal is not None else ():
        assert journal is not None
        known = journal.read(question.name, selector.scene_of)
        if known is not None:
            findings[question.name] = known
    left = [question for question in questions if question.name not in findings]
    if findings:
        _LOG.info("%d of %d questions are answered already", len(findings), len(questions))
    with progress(f"searching {provider.name}", total=len(questions)) as task:
        task.advance(len(findings))
        if left:
            api = StacApi(
                str(provider.url), provider.page_size, concurrency=provider.concurrency, per_second=provider.per_second
            )
            _ask(api, left, selector, journal, findings, task)
    return [findings[question.name] for question in questions]


def _ask(
    api: "StacApi",
    questions: Sequence[Question],
    selector: Selector,
    journal: Journal | None,
    findings: dict[str, Findings],
    task: Task,
) -> None:
    """Put questions side by side; `findings` and `journal` get each answer as it comes.

    The first failure ends all, after the answers that are there already were kept. Items are selected in this thread:
    the area's prepared geometry must not be used by two. The threads that ask are not waited for in the end: one may
    sit before a silent server for a minute, and Ctrl-C has to work before.
    """
    n_items = sum(part.n_items for part in findings.values())

    def keep(question: Question, items: Sequence[Item]) -> None:
        nonlocal n_items
        found = findings[question.name] = selector.select(items)
        if journal is not None:
            journal.write(question.name, found)
        n_items += found.n_items
        task.advance(note=f"{n_items} items")

    left: SimpleQueue[Question] = SimpleQueue()
    answers: SimpleQueue[tuple[Question, list[Item] | Exception]] = SimpleQueue()
    for question in questions:
        left.put(question)
    for _ in range(min(selector.provider.concurrency, len(questions))):
        threading.Thread(target=_put_questions, args=(api, left, answers), name="search", daemon=True).start()
    try:
        for _ in questions:
            question, answer = answers.get()
            if isinstance(answer, Exception):
                raise answer
            keep(question, answer)
    finally:
        api.stop()
        while not answers.empty():
            question, answer = answers.get()
            if not isinstance(answer, Exception):
                keep(question, answer)


def _put_questions(
    api: "StacApi", left: "SimpleQueue[Question]", answers: "SimpleQueue[tuple[Question, list[Item] | Exception]]"
) -> None:
    """Ask what is left, one question after the other, until there is none or one fails."""
    with suppress(Empty):
        while True:
            question = left.get_nowait()
            try:
                items = api.items(question.collection, question.box, question.start, question.end)
            except Exception as error:  # handed to the thread that waits for the answer
                answers.put((question, error))
                return
            answers.put((question, items))


def _journal_key(selector: Selector) -> str:
    """What has to be the same for answers to be of use again."""
    query, provider = selector.query, selector.provider
    area = "" if query.area is None else query.area.wkt
    return re.sub(r"\s+", " ", f"{provider.name} {provider.url} {query} {query} {area} {selector.unknown_baseline}")


def _nothing(
    n_items: int, provider: Provider, query: Query, outside: Mapping[str, int], skipped: Sequence[Skipped]
) -> str:
    reasons = Counter(row.reason for row in skipped)
    counts = [f"{count} {what}" for what, count in Counter(outside).most_common(4)]
    counts += [f"{count} {reason}" for reason, count in reasons.most_common(4)]
    advice = "widen the area, the dates or --max-cloud"
    if reasons["unknown-baseline"]:
        advice += ", or take numbers of unknown baseline as stored"
    elif not n_items:
        advice = "widen the area or the dates"
    given_up = f" ({', '.join(counts)})" if counts else ""
    wanted = " and ".join(provider.collection(product) for product in (query.s2, query.s1))
    return f"{provider.name}: no scenes of {wanted} for {query}: {n_items} items in all{given_up}; {advice}"

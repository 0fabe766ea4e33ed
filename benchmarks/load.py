"""Memory of the service under long use, and at a large study.

    python benchmarks/load.py [--briefings N] [--questions N]
    python benchmarks/load.py --slices 500

Runs ``trauma-api serve`` in a process of its own, with the checkpoints that are shipped unless the environment names
others. Memory is what the service's process has resident, and what its Valkey and the processes that read uploads have
to themselves. What is shared is not halved between its users: it would change with any program beside that has the same
libraries loaded.

The first form briefs small studies again and again, two at once, then asks questions about the last of them, and looks
at the memory in between, when nothing has run for long enough that freed memory has gone back to the system. The
warm-up briefs every study twice and asks every question about every briefing, so that what is kept of pictures and
prompts is there. It ends with status 1 where the memory has grown after the warm-up by more than 5 % and more than
50 MiB. Valkey is apart in the table because it keeps what was asked for half an hour, on purpose.

The second form uploads one series of so many slices of 512 x 512 pixels and briefs it, and looks at the memory twenty
times a second meanwhile. It ends with status 1 where the highest is more than 1.6 GB above that of the idle service.
"""

import argparse
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from load_service import Memory, Service, served
from trauma_api.phantom.draw import Phantom, draw_phantom, draw_training_phantom
from trauma_api.phantom.plan import Acquisition
from trauma_api.services.memory import GIVE_BACK_EVERY_S

MIB = 2**20
STUDIES = 6
SLICES_OF_SMALL = 8
LOOKS = 12
AT_ONCE = 2
SESSIONS = 50
MOST_GROWTH_SHARE, MOST_GROWTH_MIB = 0.05, 50.0
MOST_PEAK_GB = 1.6
LOOK_EVERY_S = 0.05
REST_S = GIVE_BACK_EVERY_S + 2
THICK = Acquisition(pixel_mm=0.8, slice_mm=5.0, noise_hu=12.0)
QUESTIONS = (
    "Is there active bleeding, and where?",
    "Is the spleen injured?",
    "How much blood is there?",
    "And the liver?",
    "What is the risk level?",
    "Are the kidneys injured?",
    "What should be done next?",
)
WARM_UP_BRIEFINGS = 2 * STUDIES
WARM_UP_QUESTIONS = WARM_UP_BRIEFINGS * len(QUESTIONS)


@dataclass(frozen=True)
class Look:
    """Memory after so much work, the warm-up apart."""

    when: str
    briefings: int
    questions: int
    memory: Memory


def small_study(seed: int) -> Phantom:
    """The middle slices of a phantom on the grid that it is drawn on."""
    whole = draw_training_phantom(seed)
    first = (len(whole.voxels_zyx_hu) - SLICES_OF_SMALL) // 2
    middle = slice(first, first + SLICES_OF_SMALL)
    return Phantom(whole.voxels_zyx_hu[middle], whole.labels_zyx[middle], whole.spacing_zyx_mm, whole.truth)


def large_study(slices: int) -> Phantom:
    """So many thin slices: those of a phantom of thick ones, each several times."""
    thick = draw_phantom(0, acquisition=THICK)
    times = -(-slices // len(thick.voxels_zyx_hu))
    slice_mm, row_mm, column_mm = thick.spacing_zyx_mm
    voxels = thick.voxels_zyx_hu.repeat(times, axis=0)[:slices]
    labels = thick.labels_zyx.repeat(times, axis=0)[:slices]
    return Phantom(voxels, labels, (slice_mm / times, row_mm, column_mm), thick.truth)


class Course:
    """Briefings and questions, with a look at the memory now and then."""

    def __init__(self, service: Service) -> None:
        self.looks: list[Look] = []
        self._service = service
        self._studies = [service.upload(small_study(seed)) for seed in range(STUDIES)]
        self._questions_urls: list[str] = []

    def run(self, briefings: int, questions: int) -> None:
        """Warm up, then look at the start, and several times on the way to so many briefings and then questions."""
        self._brief(range(WARM_UP_BRIEFINGS))
        self._ask(range(WARM_UP_QUESTIONS))
        self._look("after warm-up", 0, 0)
        for numbers in _pieces(briefings):
            self._brief(numbers)
            self._look("briefings", numbers.stop, 0)
        for numbers in _pieces(questions):
            self._ask(numbers)
            self._look("questions", briefings, numbers.stop)

    def _brief(self, numbers: Sequence[int]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            urls = pool.map(lambda number: self._service.brief(self._studies[number % STUDIES]), numbers)
            self._questions_urls = [*self._questions_urls, *urls][-SESSIONS:]

    def _ask(self, numbers: Sequence[int]) -> None:
        # A session takes one question at a time, and neighbours are asked at once.
        urls = self._questions_urls
        with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
            list(pool.map(lambda n: self._service.ask(urls[n % len(urls)], QUESTIONS[n % len(QUESTIONS)]), numbers))

    def _look(self, when: str, briefings: int, questions: int) -> None:
        self.looks.append(Look(when, briefings, questions, at_rest(self._service)))


def at_rest(service: Service) -> Memory:
    """What it takes once it has given freed memory back; nothing may run."""
    time.sleep(REST_S)
    return service.memory()


def _pieces(count: int) -> list[range]:
    """The numbers up to ``count``, in as many pieces as there are looks; a third and two thirds end a piece."""
    looks = min(LOOKS, count)
    ends = [round(count * number / looks) for number in range(looks + 1)] if looks else []
    return [range(begin, end) for begin, end in pairwise(ends)]


def slope_kib(looks: Sequence[Look], done: Callable[[Look], int]) -> float:
    """Growth for each piece of work, by least squares."""
    if len(looks) < 2:
        return float("nan")
    return float(np.polyfit([done(look) for look in looks], [look.memory.total_mib * 1024 for look in looks], 1)[0])


def long_use(briefings: int, questions: int) -> bool:
    """Brief and ask, and print the memory. Returns whether it stayed within bounds."""
    with served() as service:
        idle = Look("idle", 0, 0, at_rest(service))
        course = Course(service)
        course.run(briefings, questions)
    warm, *_, end = course.looks
    while_briefing = [look for look in course.looks if look.questions == 0]
    while_asking = [look for look in course.looks if look.briefings == briefings]
    shown = [
        idle,
        warm,
        *_thirds(while_briefing, briefings, "briefings"),
        *_thirds(while_asking, questions, "questions"),
    ]
    grown_mib = end.memory.total_mib - warm.memory.total_mib
    allowed_mib = max(MOST_GROWTH_SHARE * warm.memory.total_mib, MOST_GROWTH_MIB)
    print("\n".join([*_rows(shown), ""]))
    print(f"- {slope_kib(while_briefing, lambda look: look.briefings):.1f} KiB for each briefing after the warm-up")
    print(f"- {slope_kib(while_asking, lambda look: look.questions):.1f} KiB for each question after the briefings")
    print(f"- {grown_mib:.1f} MiB in all after the warm-up; at most {allowed_mib:.1f} MiB are allowed")
    return grown_mib <= allowed_mib


def _thirds(looks: Sequence[Look], total: int, what: str) -> list[Look]:
    """The looks at a third, at two thirds and at the end of so much work; none where there was none."""
    done = [(look.briefings if what == "briefings" else look.questions, look) for look in looks]
    wanted = [round(total * third / 3) for third in (1, 2, 3)] if total else []
    return [min(done, key=lambda pair: abs(pair[0] - count))[1] for count in wanted]


def _rows(looks: Sequence[Look]) -> Iterator[str]:
    yield f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    yield ""
    yield "| when | briefings | questions | all, MiB | service, MiB | Valkey, MiB | reading uploads, MiB |"
    yield "|---|---|---|---|---|---|---|"
    for look in looks:
        memory = look.memory
        yield (
            f"| {look.when} | {look.briefings} | {look.questions} | {memory.total_mib:.1f} | {memory.service_mib:.1f} "
            f"| {memory.valkey_mib:.1f} | {memory.uploads_mib:.1f} |"
        )


@contextmanager
def highest(service: Service, looks: list[Look], when: str) -> Iterator[None]:
    """Appends a look at the highest memory meanwhile."""
    stop = threading.Event()
    seen = [service.memory()]

    def watch() -> None:
        while not stop.wait(LOOK_EVERY_S):
            seen.append(service.memory())

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            stop.set()
        watching.result()
    looks.append(Look(when, 0, 0, max(seen, key=lambda memory: memory.total_mib)))


def one_large_study(slices: int) -> bool:
    """Upload and brief one study, and print the memory. Returns whether it stayed within bounds."""
    study = large_study(slices)
    with served() as service:
        looks = [Look("idle", 0, 0, service.memory())]
        with highest(service, looks, f"highest while {slices} slices are uploaded"):
            study_id = service.upload(study)
        with highest(service, looks, "highest while they are briefed"):
            service.brief(study_id)
        looks.append(Look("afterwards", 1, 0, service.memory()))
    peak_gb = (max(look.memory.total_mib for look in looks) - looks[0].memory.total_mib) * MIB / 1e9
    print("\n".join([*_rows(looks), ""]))
    print(f"- {peak_gb:.2f} GB above idle at the highest; at most {MOST_PEAK_GB} GB are allowed")
    return peak_gb <= MOST_PEAK_GB


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--briefings", type=int, default=300)
    parser.add_argument("--questions", type=int, default=3000)
    parser.add_argument("--slices", type=int, help="one study of so many slices instead")
    arguments = parser.parse_args()
    if arguments.slices is not None:
        within = one_large_study(arguments.slices)
    else:
        within = long_use(arguments.briefings, arguments.questions)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()

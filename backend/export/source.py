"""Where do the pictures of a data set come from? From a project's tasks, page by page, one picture at a time.

What is in memory at once does not grow with the project: a page of tasks, and the pictures that are fetched ahead.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

from backend.annotations.reading import KeptRegion, read_regions
from backend.errors import AnnotationError, ExportError, TaskError
from backend.export.chosen import Chosen, Rules, choose
from backend.export.classes import Classes, classes_of, drawing_controls, read_config
from backend.export.image_files import ImageFile, image_file
from backend.export.names import picture_name
from backend.export.painting import Painted, majority, paint
from backend.export.pictures import ExportedPicture
from backend.export.split import split_of
from backend.images.host import LabelStudioHost
from backend.images.pages import ImageKey, pictures_of
from backend.labeling.controls import MAX_PAGES, LabelConfig, MaskControl
from clipdiy.photo import Photo

PAGE = 20
"""Tasks asked for at once: a brush of a large picture is a megabyte of JSON."""
AHEAD = 8
"""Pictures that are fetched and decoded at the same time."""

Tell = Callable[[str], None]
_Job = TypeVar("_Job")
_Made = TypeVar("_Made")


class Api(Protocol):
    """What is used of `backend.label_studio_api.LabelStudioApi`."""

    def project(self, project_id: int) -> Mapping[str, Any]:
        """Return how Label Studio describes a project."""

    def task_pages(self, project_id: int, *, fields: str, page_size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield all tasks of a project, page by page, with annotations and predictions."""


class Loader(Protocol):
    """What is used of `backend.images.loader.ImageLoader`, which keeps all pixels here."""

    def fetch(self, value: str, *, task_id: object, host: LabelStudioHost | None) -> bytes:
        """Fetch a picture's file; raises `TaskError`."""

    def decode(self, data: bytes, value: str) -> Photo:
        """Decode it; raises `TaskError`."""


@dataclass(frozen=True)
class Wanted:
    """What of a project is exported, and how.

    Attributes:
        rules: Whose word counts.
        controls: Names of controls; see `backend.export.classes.drawing_controls`.
        ignore: Labels whose pixels are ignored.
        val_share: Of the pictures, for validation.
    """

    rules: Rules = field(default_factory=Rules)
    controls: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    val_share: float = 0.2


@dataclass(frozen=True)
class ReadTask:
    """A task, and what is said of it.

    Attributes:
        number: Its id.
        sent: As the API has it.
        chosen: What counts; `None` if nobody has said anything.
    """

    number: int
    sent: Mapping[str, Any] = field(repr=False)
    chosen: Chosen | None


@dataclass(frozen=True)
class _Place:
    """A picture of a task."""

    task: ReadTask
    key: ImageKey
    address: str


@dataclass(frozen=True)
class _Fetched:
    """A picture that was fetched, or why it was not."""

    file: ImageFile | None
    size_hw: tuple[int, int] = (0, 0)
    original: bytes = field(default=b"", repr=False)
    problem: str = ""


class ProjectSource:
    """The tasks and pictures of a project. The project is asked about once, its tasks each time they are read."""

    def __init__(
        self,
        api: Api,
        loader: Loader,
        project: int,
        wanted: Wanted | None = None,
        *,
        host: LabelStudioHost | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        """Keep what is to be asked.

        Args:
            api: Its Label Studio.
            loader: Fetches pictures; used by several threads.
            project: Its id.
            wanted: What of it.
            host: The same Label Studio, for pictures that it has.
            tell: Takes a sentence for each picture that is left out, or whose masks are.
        """
        self._api = api
        self._loader = loader
        self._project = project
        self._wanted = wanted or Wanted()
        self._host = host
        self._tell = tell

    @cached_property
    def described(self) -> Mapping[str, Any]:
        """How Label Studio describes the project."""
        return self._api.project(self._project)

    @property
    def title(self) -> str:
        """The project's title."""
        return str(self.described.get("title") or f"project {self._project}")

    @property
    def expected(self) -> int | None:
        """How many tasks the project has; `None` if Label Studio does not say so."""
        number = self.described.get("task_number")
        return number if isinstance(number, int) else None

    @cached_property
    def config(self) -> LabelConfig:
        """The project's labeling config."""
        return read_config(str(self.described.get("label_config") or ""))

    @cached_property
    def controls(self) -> tuple[MaskControl, ...]:
        """Those whose regions are exported."""
        return drawing_controls(self.config, self._wanted.controls)

    @cached_property
    def classes(self) -> Classes:
        """The classes; where labels stand in the tasks, all tasks are read for them, and names are in their own order.

        Raises:
            ExportError: See `backend.export.classes.classes_of`.
        """
        controls = self.controls
        if any(control.labels_key is not None for control in controls):
            controls = self._with_labels_of_tasks()
        return classes_of(controls, self._wanted.ignore)

    def tasks(self) -> Iterator[ReadTask]:
        """Yield the tasks, in the order in which the API has them."""
        for page in self._api.task_pages(self._project, fields="all", page_size=PAGE):
            for sent in page:
                number = sent.get("id")
                if isinstance(number, int):
                    yield ReadTask(number, sent, choose(sent, self._wanted.rules))

    def pictures(self) -> Iterator[ExportedPicture]:
        """Yield every picture of every task, with its masks.

        One that cannot be fetched or read is left out, and told. One whose annotation cannot be read to the last region
        counts as unlabelled: what is missing may be anywhere.
        """
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="export-pictures") as pool:
            for place, fetched in in_order(pool, self._fetch, self._places(), AHEAD):
                where = f"task {place.task.number}"
                if fetched.file is None:
                    self._tell(f"{where}: the picture is left out: {fetched.problem}")
                    continue
                painted = None
                try:
                    painted = self._painted(place, fetched.size_hw)
                except AnnotationError as err:
                    self._tell(f"{where}: the picture counts as unlabelled: {err}")
                yield self._picture(place, fetched, fetched.file, painted)

    def _places(self) -> Iterator[_Place]:
        for task in self.tasks():
            try:
                addresses = pictures_of(task.sent.get("data"), self.controls)
            except TaskError as err:
                self._tell(f"task {task.number}: the picture is left out: {err}")
                continue
            for key, address in addresses.items():
                yield _Place(task, key, address)

    def _fetch(self, place: _Place) -> _Fetched:
        try:
            data = self._loader.fetch(place.address, task_id=place.task.number, host=self._host)
            photo = self._loader.decode(data, place.address)
        except TaskError as err:
            return _Fetched(None, problem=str(err))
        return _Fetched(image_file(data, photo), photo.size_hw, data)

    def _painted(self, place: _Place, size_hw: tuple[int, int]) -> Painted | None:
        """Return what is said of a picture.

        Raises:
            AnnotationError: If it cannot be read.
        """
        chosen = place.task.chosen
        if chosen is None:
            return None
        said = [self._regions(sent.get("result"), place.key) for sent in chosen.sent]
        if chosen.origin == "annotation":
            # What a person has kept has no score any more, though it still stands there.
            said = [[replace(region, score=None) for region in regions] for regions in said]
        painted = [paint(regions, size_hw, self.classes) for regions in said]
        return painted[0] if len(painted) == 1 else majority([one.label_map for one in painted])

    def _regions(self, result: object, key: ImageKey) -> list[KeptRegion]:
        """Return the regions of one picture.

        Raises:
            AnnotationError: If one was left out that looks like a region.
        """
        data_key, page = key
        controls = tuple(control for control in self.controls if control.data_key == data_key)
        images = {control.to_name for control in controls}
        own = result
        if isinstance(result, list):
            # One control may draw on several images.
            own = [one for one in result if not isinstance(one, Mapping) or one.get("to_name") in images]
        kept = read_regions(own, LabelConfig(controls))
        if kept.problems:
            raise AnnotationError(kept.problems[0])
        return [region for region in kept.regions if page is None or (region.page or 0) == page]

    def _picture(self, place: _Place, fetched: _Fetched, file: ImageFile, painted: Painted | None) -> ExportedPicture:
        keys = list(dict.fromkeys(control.data_key for control in self.controls))
        data_key, page = place.key
        image, number = keys.index(data_key), place.task.number
        has_several = len(keys) > 1 or any(control.is_list for control in self.controls)
        chosen = place.task.chosen
        return ExportedPicture(
            name=picture_name(number, place.address, image=image if len(keys) > 1 else None, page=page),
            image_id=(number * len(keys) + image) * MAX_PAGES + (page or 0) if has_several else number,
            task=number,
            split="unlabelled" if painted is None else split_of(fetched.original, self._wanted.val_share),
            file=file,
            size_hw=fetched.size_hw,
            label_map=None if painted is None else painted.label_map,
            instances=() if painted is None else painted.instances,
            origin=None if painted is None or chosen is None else chosen.origin,
            score=None if painted is None or chosen is None else chosen.score,
            address=place.address,
            page=page,
        )

    def _with_labels_of_tasks(self) -> tuple[MaskControl, ...]:
        """Return the controls with every label that stands in a task."""
        found: list[dict[str, Any]] = [{} for _ in self.controls]
        for page in self._api.task_pages(self._project, fields="task_only", page_size=100):
            for sent in page:
                for labels, control in zip(found, self.controls, strict=True):
                    try:
                        labels.update((label.value, label) for label in control.for_task(sent.get("data")).labels)
                    except TaskError as err:
                        self._tell(f"task {sent.get('id')}: {err}")
        if not any(found):
            raise ExportError("the labels stand in the project's tasks, and no task has any")
        from_tasks = [tuple(labels[name] for name in sorted(labels)) for labels in found]
        return tuple(
            control if control.labels_key is None else _labelled(control, labels)
            for control, labels in zip(self.controls, from_tasks, strict=True)
        )


def _labelled(control: MaskControl, labels: Iterable[Any]) -> MaskControl:
    return replace(control, labels=tuple(labels), labels_key=None)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Job], _Made], jobs: Iterable[_Job], most: int
) -> Iterator[tuple[_Job, _Made]]:
    """Do jobs in threads and yield what they made in their order; at most `most` are begun and not yet taken."""
    waiting: deque[tuple[_Job, Future[_Made]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(work, job)))
            if len(waiting) == most:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()

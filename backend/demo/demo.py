"""A running Label Studio with a project to look at: pictures, our backend connected, masks retrieved, a URL to open.

`make demo` starts it. Everything it keeps lies in one folder (`demo-data`), and a second run goes on with it.
"""

import fcntl
import importlib.metadata
import io
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal
from xml.sax.saxutils import quoteattr

import typer
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from backend.demo.label_studio_process import Login, find_executable, label_studio_process
from backend.demo.server_process import LOOPBACK, ServerProcess, backend_process, free_port
from backend.errors import BackendError
from backend.label_studio_api import SCORE_FLAG, LabelStudioApi
from clipdiy.starter.scenes import Sprites, compose_scene, load_sprites

PresetName = Literal["starter", "paper", "paper-fast", "paper-b16", "dinoiser"]

LABEL_STUDIO_PORT = 8080
BACKEND_PORT = 9090
BACKEND_TITLE = "CLIP-DIY"
VIEW_TITLE = "Least sure first"

# Few enough for one row under a picture, and no two colours that could be taken for each other.
SCENE_LABELS = {
    "dog": "#e6194b",
    "cat": "#4363d8",
    "elephant": "#f58231",
    "butterfly": "#911eb4",
    "banana": "#3cb44b",
    "pizza": "#42d4f4",
    "car": "#f032e6",
    "rocket": "#469990",
    "sunflower": "#000075",
}
# (seed, (height, width)): landscape, portrait and an odd size.
SCENES = (
    (500, (480, 640)),
    (502, (640, 480)),
    (504, (480, 640)),
    (507, (480, 640)),
    (508, (480, 640)),
    (510, (640, 480)),
    (512, (375, 501)),
    (516, (480, 640)),
    (517, (480, 640)),
    (526, (640, 480)),
    (531, (480, 640)),
    (544, (480, 640)),
)
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")

# Labels, score and the picture are what one looks for here; the rest can be switched on under "Columns".
_HIDDEN = [
    f"tasks:{column}"
    for column in (
        "inner_id",
        "completed_at",
        "cancelled_annotations",
        "total_predictions",
        "annotators",
        "annotations_results",
        "annotations_ids",
        "predictions_results",
        "file_upload",
        "storage_filename",
        "created_at",
        "updated_at",
        "updated_by",
        "avg_lead_time",
        "draft_exists",
    )
]
# Small requests: each ends with masks that can be counted, long before Label Studio loses patience.
_TASKS_PER_REQUEST = 2

_console = Console(highlight=False)


class DemoError(BackendError):
    """The demo cannot go on. Its servers have been ended."""


@dataclass(frozen=True)
class Show:
    """What one demo puts into its project.

    Attributes:
        title: Of the project.
        label_config: Its labeling config.
        pictures: File name and content of each picture.
        note: What a person should know about the weights behind it.
    """

    title: str
    label_config: str
    pictures: tuple[tuple[str, bytes], ...]
    note: str


@dataclass(frozen=True)
class Retrieved:
    """What was retrieved for one task."""

    task_id: int
    picture: str
    score: float
    masks: tuple[tuple[str, float], ...]


def starter_show() -> Show:
    """Return generated scenes with the objects of `SCENE_LABELS`: what the bundled starter weights know."""
    every = load_sprites()
    sprites = Sprites({noun: every.by_noun[noun] for noun in SCENE_LABELS})
    pictures = []
    for number, (seed, size_hw) in enumerate(SCENES, start=1):
        scene = compose_scene(seed, size_hw=size_hw, n_objects=(1, 4), sprites=sprites)
        pictures.append((f"scene-{number:02}.png", _png(Image.fromarray(scene.image))))
    labels = "".join(f"\n    <Label value={quoteattr(n)} background={quoteattr(c)}/>" for n, c in SCENE_LABELS.items())
    return Show(
        title="CLIP-DIY demo: starter weights",
        label_config=(
            '<View>\n  <Image name="img" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="brush" toName="img">{labels}\n  </BrushLabels>\n</View>'
        ),
        pictures=tuple(pictures),
        note=(
            "These masks come from the bundled [bold]starter weights[/]: a tiny model that knows its own 48 nouns "
            "in its own drawings, a closed world, and nothing about photos.\n"
            "The real weights, on photos: [bold]make demo PRESET=paper[/] (`clipdiy weights fetch` gets them first)."
        ),
    )


def photo_show(preset: PresetName) -> Show:
    """Return photos out of the installed scikit-image package, for the paper's weights.

    Raises:
        DemoError: If the package or one of its photos is missing.
    """
    try:
        files = {path.name: path for path in importlib.metadata.files("scikit-image") or ()}
    except importlib.metadata.PackageNotFoundError:
        files = {}
    missing = [name for name in PHOTOS if name not in files]
    if missing:
        raise DemoError(
            f"the photos {', '.join(missing)} come with the package scikit-image, which is not installed here: "
            "`make demo PRESET=paper` installs it, or `pip install scikit-image==0.26.0`"
        )
    config = Path(__file__).parents[2] / "label_config" / "photos.xml"
    return Show(
        title=f"CLIP-DIY demo: photos, {preset}",
        label_config=config.read_text(),
        pictures=tuple((name, Path(str(files[name].locate())).read_bytes()) for name in PHOTOS),
        note=f"These masks come from the weights of the preset [bold]{preset}[/].",
    )


def ensure_project(api: LabelStudioApi, show: Show, backend_url: str) -> int:
    """Make the project with its pictures and backend, or complete the one that is there; return its id."""
    project_id = api.find_project(show.title)
    if project_id is None:
        # show_collab_predictions: whoever opens a task begins with our masks.
        project_id = api.create_project(show.title, show.label_config, show_collab_predictions=True)
    there = {picture_name(task) for task in api.tasks(project_id)}
    missing = [(name, content) for name, content in show.pictures if name not in there]
    if missing:
        api.upload(project_id, missing)
    api.connect_backend(project_id, backend_url, BACKEND_TITLE)
    return project_id


def ensure_view(api: LabelStudioApi, project_id: int) -> int:
    """Return the tab of the data manager that shows the least sure predictions first, made if need be."""
    for view in api.views(project_id):
        if view["data"].get("title") == VIEW_TITLE:
            return int(view["id"])
    return api.create_view(
        project_id,
        VIEW_TITLE,
        ordering=["tasks:predictions_score"],
        hiddenColumns={"explore": _HIDDEN, "labeling": [*_HIDDEN, "tasks:predictions_model_versions"]},
    )


def picture_name(task: dict[str, Any]) -> str:
    """Return the name under which the picture of a task was uploaded; Label Studio puts a number before it."""
    name = str(task["data"].get("image", "")).rsplit("/", 1)[-1]
    return name.split("-", 1)[-1]


def retrieve_all(api: LabelStudioApi, project_id: int, *, rounds_without_progress: int = 2) -> list[Retrieved]:
    """Retrieve predictions, few tasks a request with progress shown, until every task has one.

    Returns:
        What was found, the least sure first.

    Raises:
        DemoError: If some tasks stay without a prediction.
    """
    tasks = {int(task["id"]): task for task in api.tasks(project_id)}
    stuck = 0
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_console,
    ) as progress:
        bar = progress.add_task("retrieving predictions", total=len(tasks))
        done = _current_predictions(api, project_id)
        progress.update(bar, completed=len(done))
        while pending := [task_id for task_id in tasks if task_id not in done]:
            if stuck == rounds_without_progress:
                raise DemoError(f"no prediction came for the tasks {', '.join(map(str, pending))}")
            before = len(done)
            for start in range(0, len(pending), _TASKS_PER_REQUEST):
                api.retrieve_predictions(project_id, pending[start : start + _TASKS_PER_REQUEST])
                done = _current_predictions(api, project_id)
                progress.update(bar, completed=len(done))
            stuck = stuck + 1 if len(done) == before else 0
    found = [_found(tasks[task_id], prediction) for task_id, prediction in done.items() if task_id in tasks]
    return sorted(found, key=lambda entry: entry.score)


def _model_version(api: LabelStudioApi, project_id: int) -> str:
    """Return the version that the connected backend names for this project's config."""
    return str(api.backends(project_id)[0]["model_version"])


def _current_predictions(api: LabelStudioApi, project_id: int) -> dict[int, dict[str, Any]]:
    """Return the predictions of the model version that runs now, by task."""
    version = _model_version(api, project_id)
    return {int(p["task"]): p for p in api.predictions(project_id) if p["model_version"] == version}


def _found(task: dict[str, Any], prediction: dict[str, Any]) -> Retrieved:
    masks = tuple(
        (", ".join(region["value"].get(region["type"], [])), float(region.get("score") or 0.0))
        for region in prediction["result"]
    )
    return Retrieved(int(task["id"]), picture_name(task), float(prediction["score"] or 0.0), masks)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _print_table(found: Sequence[Retrieved]) -> None:
    table = Table("task", "picture", "score", "masks", title="Retrieved, the least sure first", title_justify="left")
    for entry in found:
        masks = ", ".join(f"{escape(label)} {score:.2f}" for label, score in entry.masks) or "nothing found"
        table.add_row(str(entry.task_id), escape(entry.picture), f"{entry.score:.2f}", masks)
    _console.print(table)


def _print_way_in(address: str, login: Login, page: str, note: str) -> None:
    """Say where to look: a task in Label Studio, and the backend's own page."""
    way_in = (
        f"open   [bold link={address}]{address}[/]\nlogin  [bold]{login.email}[/]  [bold]{login.password}[/]\n"
        f"page   [bold link={page}]{page}[/]  what runs, how good it is, labels to try out"
    )
    _console.print(Panel(f"{way_in}\n\n{note}", title="Label Studio is up", title_align="left"))


def _take_pictures(
    url: str, login: Login, project_id: int, view_id: int, found: Sequence[Retrieved], path: Path
) -> None:
    """Save the task that shows most, and beside it the data manager."""
    # A development tool, and needed for nothing else here.
    from backend.demo.browser import Browser

    best = max(found, key=lambda entry: (min(len(entry.masks), 3), entry.score))
    with Browser(url, login, size_wh=(1440, 810), scale=1.5) as browser:
        browser.open_task(project_id, best.task_id, regions=len(best.masks))
        browser.photograph(path)
        browser.open_data_manager(project_id, view_id)
        browser.photograph(path.with_stem(f"{path.stem}-data-manager"))


@contextmanager
def _own(data_dir: Path, *, fresh: bool) -> Iterator[None]:
    """Keep the data folder to ourselves, emptied first if asked to.

    Raises:
        DemoError: If another demo has it, or it is to be emptied and is not ours.
    """
    if data_dir.exists() and any(data_dir.iterdir()) and not (data_dir / "lock").exists():
        raise DemoError(f"{data_dir} holds something else than a demo's data: name an empty or a new folder")
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        _lock(lock, data_dir)
        if fresh:
            for entry in data_dir.iterdir():
                if entry.name == "lock":
                    continue
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield


def _lock(lock: IO[str], data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        raise DemoError(f"another demo is running in {data_dir}: end it first, or use another --data-dir") from err


def _login(data_dir: Path) -> Login:
    """Return the login of this demo, made up on the first run."""
    path = data_dir / "login.json"
    if not path.exists():
        made = {"email": "demo@example.com", "password": secrets.token_hex(5), "token": secrets.token_hex(20)}
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(made, file)
    return Login(**json.loads(path.read_text()))


def _stay_up(servers: Sequence[ServerProcess]) -> None:
    """Wait for Ctrl-C.

    Raises:
        DemoError: If one of the servers ends by itself.
    """
    while True:
        for server in servers:
            if not server.running:
                raise DemoError(f"{server.name} has ended by itself; its log is {server.log_path}")
        time.sleep(1)


def run_demo(
    preset: PresetName,
    data_dir: Path,
    *,
    fresh: bool = False,
    wait: bool = True,
    screenshot: Path | None = None,
    executable: Path | None = None,
) -> None:
    """Bring everything up, fill the project, show the result, and stay until Ctrl-C.

    Raises:
        BackendError: If something cannot be had; the servers have been ended.
    """
    program = find_executable(executable)
    with _own(data_dir, fresh=fresh):
        login = _login(data_dir)
        logs_dir = data_dir / "logs"
        label_studio_port = free_port(LABEL_STUDIO_PORT)
        label_studio_url = f"http://{LOOPBACK}:{label_studio_port}"
        own_settings = {name: value for name, value in os.environ.items() if name.startswith("CLIPDIY_")}
        backend = backend_process(
            {
                **own_settings,
                "CLIPDIY_PRESET": preset,
                "CLIPDIY_DATA_DIR": str((data_dir / "backend").absolute()),
                "CLIPDIY_LABEL_STUDIO_URL": label_studio_url,
                "CLIPDIY_LABEL_STUDIO_TOKEN": login.token,
            },
            log_path=logs_dir / "backend.log",
            port=free_port(BACKEND_PORT),
        )
        with ExitStack() as servers:
            # The backend first: missing weights show in seconds.
            with _console.status(f"starting the backend with the preset {preset}"):
                servers.enter_context(backend)
            show = starter_show() if preset == "starter" else photo_show(preset)
            with _console.status("starting Label Studio (up to a minute the first time)"):
                label_studio = label_studio_process(
                    program,
                    data_dir / "label-studio",
                    login,
                    log_path=logs_dir / "label-studio.log",
                    port=label_studio_port,
                    extra_environment={SCORE_FLAG: "true"},
                )
                servers.enter_context(label_studio)
            api = LabelStudioApi(label_studio.url, f"Token {login.token}")
            with _console.status("filling the project"):
                project_id = ensure_project(api, show, backend.url)
                view_id = ensure_view(api, project_id)
            found = retrieve_all(api, project_id)
            _print_table(found)
            address = f"{label_studio.url}/projects/{project_id}/data?tab={view_id}"
            _print_way_in(address, login, f"{backend.url}/", show.note)
            if screenshot is not None:
                _take_pictures(label_studio.url, login, project_id, view_id, found, screenshot)
                _console.print(f"screenshot: {escape(str(screenshot))}")
            if wait:
                _console.print("Ctrl-C ends both servers; the next run goes on with this project.")
                _stay_up([backend, label_studio])


app = typer.Typer(add_completion=False)


@app.command()
def main(
    preset: Annotated[PresetName, typer.Option(help="Weights to run.")] = "starter",
    data_dir: Annotated[Path, typer.Option(help="Everything the demo keeps.")] = Path("demo-data"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the last run first.")] = False,
    wait: Annotated[bool, typer.Option(help="Stay up until Ctrl-C, or end once the predictions are there.")] = True,
    screenshot: Annotated[Path | None, typer.Option(help="Save a picture of an opened task (needs Chromium).")] = None,
    label_studio: Annotated[Path | None, typer.Option(help="The label-studio program of another installation.")] = None,
) -> None:
    """Show brush masks in a real Label Studio."""
    # A plain kill must end the servers too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_demo(preset, data_dir, fresh=fresh, wait=wait, screenshot=screenshot, executable=label_studio)
    except KeyboardInterrupt:
        _console.print("ended")
    except (BackendError, OSError) as err:
        _console.print(f"[red]error:[/] {escape(str(err))}", soft_wrap=True)
        raise typer.Exit(1) from err
